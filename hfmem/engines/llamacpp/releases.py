"""Builds of llama.cpp whose rules differ, the newest first: a row holds from its month on, until that of the row above.

llama.cpp has no numbers of versions before 0.5.0, so older builds go by the month in which their rules came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["NEWEST", "RELEASES", "Release", "release_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A build's rules, where builds differ.

    Attributes:
        name: its number, or the month of the first build with its rules.
        changed: what came with it, with its address.
        output_first: of `-ngl N` layers the first is the output; before, it was the last.
        both_inputs: the graph has an input for embeddings beside that for tokens.
        row_indices: the graph has inputs that say into which rows of a cache keys and values go.
        half_masks: the masks of flash attention are made in float16; before, in float32 and then converted.
        turned_caches: quantised keys and values are turned by a rotation before they are kept.
        all_outputs: a row of logits is reserved for each token of a batch, not one for each sequence.
    """

    name: str
    changed: str
    output_first: bool = True
    both_inputs: bool = True
    row_indices: bool = True
    half_masks: bool = True
    turned_caches: bool = True
    all_outputs: bool = False


RELEASES: Final = (
    Release(
        name="0.5.0",
        changed="float16 masks (https://github.com/ggml-org/llama.cpp/pull/23764); logits of one token a sequence "
        "(https://github.com/ggml-org/llama.cpp/pull/23861)",
    ),
    Release(
        name="2026-04",
        changed="a rotation of quantised caches (https://github.com/ggml-org/llama.cpp/pull/21038)",
        half_masks=False,
        all_outputs=True,
    ),
    Release(
        name="2026-01",
        changed="an input for embeddings in every graph (https://github.com/ggml-org/llama.cpp/pull/18898)",
        half_masks=False,
        turned_caches=False,
        all_outputs=True,
    ),
    Release(
        name="2025-12",
        changed="the output is the first layer that is offloaded (https://github.com/ggml-org/llama.cpp/pull/18148)",
        both_inputs=False,
        half_masks=False,
        turned_caches=False,
        all_outputs=True,
    ),
    Release(
        name="2025-08",
        changed="inputs for the rows of caches, on by default (https://github.com/ggml-org/llama.cpp/pull/14285)",
        output_first=False,
        both_inputs=False,
        half_masks=False,
        turned_caches=False,
        all_outputs=True,
    ),
    Release(
        name="2024-03",
        changed="batches of several devices under way at once (https://github.com/ggml-org/llama.cpp/pull/6017)",
        output_first=False,
        both_inputs=False,
        row_indices=False,
        half_masks=False,
        turned_caches=False,
        all_outputs=True,
    ),
)

NEWEST: Final = RELEASES[0]


def release_of(name: str | None) -> Release:
    """The release of a name; the newest where none is asked for.

    Raises:
        KeyError: there is none of that name.
    """
    return NEWEST if name is None else {release.name: release for release in RELEASES}[name]
