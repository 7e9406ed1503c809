"""What vLLM's own classes of vision towers need for a forward pass (`hfmem/data/vllm_towers.jsonl`), where they differ
from those of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import add
from typing import Final

from hfmem.data import text as data_text
from hfmem.engines.vllm.releases import number_of
from hfmem.estimator.activations.polynomials import Polynomial

__all__ = ["CAST", "Forward", "forward_of"]

CAST: Final = (0, 9, 0)
"""From here on, processors hand over pixels in the model's dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """The forward pass of a class.

    Attributes:
        since: the first release.
        peaks: bytes at each of its widest points.
        always: bytes that are there at each of them.
        source: where they are read from.
        joined: whether the pixels of a batch are put together in a copy, before the text's embeddings are made and the
            tower runs.
        merged: whether ranks share the layers that put its features together for the decoder.
        stated: whether the class says how many tokens an image has, whatever the size of those in the profile run.
        spelled: tokens by which a feature of a video is counted, with the texts between the frames.
    """

    since: tuple[int, int]
    peaks: tuple[str, ...]
    always: tuple[str, ...]
    source: str
    joined: bool = False
    merged: bool = False
    spelled: float = 1
    stated: bool = False

    def highest(self, sizes: Mapping[str, int]) -> Polynomial:
        """The highest of its points, with what is there all the time."""
        peak = max((Polynomial.parse(peak) for peak in self.peaks), key=lambda one: one.at(sizes))
        return reduce(add, map(Polynomial.parse, self.always), peak)


def forward_of(tower: str, release: tuple[int, int]) -> Forward | None:
    """The forward pass of a release's class for a type of tower; None where only transformers' class was measured."""
    found = [one for one in _table().get(tower, ()) if one.since <= release]
    return found[-1] if found else None


@cache
def _table() -> Mapping[str, Sequence[Forward]]:
    _, *lines = data_text("vllm_towers.jsonl").splitlines()
    found: dict[str, list[Forward]] = {}
    for row in map(json.loads, lines):
        forward = Forward(
            since=number_of(row["since"])[:2],
            peaks=tuple(row["peaks"]),
            always=tuple(row["always"]),
            source=row["source"],
            joined=row.get("joined", False),
            merged=row.get("merged", False),
            spelled=row.get("spelled", 1),
            stated=row.get("stated", False),
        )
        found.setdefault(row["type"], []).append(forward)
    return found
