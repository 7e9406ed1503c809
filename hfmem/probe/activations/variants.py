"""Small configs of a type whose sizes are all different, so that each size can be recognised in tensor shapes.

A variant starts from the type's small config (`hfmem.probe.tiny`) with new random sizes. Sizes with a known dependency
are drawn together; a size that the class does not accept changed keeps its value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hfmem.probe import tiny
from hfmem.probe.activations.attempts import Config, hears, with_changes
from hfmem.probe.activations.bases import (
    encoder_depth,
    hears_in_blocks,
    is_chunked,
    lengthened,
    with_all_heads,
    with_head_dim,
    with_shared_caches,
)
from hfmem.probe.activations.draws import Deck, free, joint
from hfmem.probe.activations.keys import CHUNK, WINDOWS, drawn_sizes, integers, tied
from hfmem.probe.activations.structures import plain, switched

__all__ = ["SHAPES", "Variant", "fixed_sizes", "has_windows", "variants"]

SHAPES: Final = ((2, 16), (3, 24), (2, 36), (4, 20), (3, 32), (5, 28), (2, 40))
"""Batch and tokens at each probe, all longer than the drawn sliding windows."""

CHUNKED_SHAPES: Final = ((2, 210), (3, 270), (2, 350), (4, 230), (2, 290), (3, 200), (2, 410))
"""The same for classes that process chunks of tokens and pad to them: at least four chunks of up to 64, so that the
first two and last two iterations of a loop are distinct, with an incomplete last one, so that padding shows."""

Variant = tuple[Config, int, int]

_FEW: Final = 3

_DEPTHS: Final = (2, 3, 4, 5)
_IN_BLOCKS: Final = (4, 6, 8)
"""Numbers of encoder layers, and those of an encoder that attends in blocks, of which every second layer may be shifted
by half a block."""


def variants(model_type: str, name: str, *, within: bool = False, few: bool = False, attempt: int = 0) -> list[Variant]:
    """A config for each of `SHAPES`, with the batch and tokens to run it with.

    Args:
        model_type, name: the type, with switched keys (`hfmem.probe.activations.structures`), and its class.
        within: whether windows are longer than the sequence instead of shorter.
        attempt: seed; another number draws other sizes.
        few: only the first shapes, without a search for sizes that the class accepts; enough to compare, not to solve.

    Raises:
        Exception: whatever the class raises for its small config.
    """
    base = lengthened(with_shared_caches(tiny.shrunk(plain(model_type), name)), within)
    path = tiny.text_path(tiny.build(base))
    base = with_all_heads(with_changes(base, path, switched(base, model_type)), path)
    seed = f"{model_type} {within} {attempt}" if attempt else f"{model_type} {within}"
    deck = Deck(seed, heard=hears(base))
    base = with_head_dim(base, path)
    fields = drawn_sizes(base, path)
    kept = [key for key in fields if few or tied(key) or free(base, path, key, fields[key], deck)]
    depth = encoder_depth(base, path)
    found = []
    chunked = is_chunked(base, path)
    for batch, tokens in (CHUNKED_SHAPES if chunked else SHAPES)[: _FEW if few else None]:
        changes = joint(base, path, {key: fields[key] for key in kept}, deck)
        changes |= {key: deck.pick("encoder depth", _IN_BLOCKS if chunked else _DEPTHS) for key in depth}
        found.append((with_changes(base, path, changes), batch, tokens))
    return found


def has_windows(drawn: Sequence[Variant]) -> bool:
    """Whether a type has sliding-window attention, or an encoder that attends in blocks."""
    config = drawn[0][0]
    built = tiny.build(config)
    text = tiny.at(built, tiny.text_path(built))
    windows = any(WINDOWS.search(key) and not CHUNK.search(key) and value > 1 for key, value in integers(text))
    return windows or hears_in_blocks(config)


def fixed_sizes(drawn: Sequence[Variant]) -> dict[str, int]:
    """Sizes that are the same in all variants, since the class does not accept them changed. Windows longer than the
    sequence are left out, as no tensor has their size."""
    path = tiny.text_path(tiny.build(drawn[0][0]))
    texts = [tiny.at(tiny.build(config), path) for config, _, _ in drawn]
    names = drawn_sizes(drawn[0][0], path)
    longest = max(tokens for _, _, tokens in drawn)
    sizes = {name: value for name, value in names.items() if not (WINDOWS.search(name) and value > longest)}
    return {name: value for name, value in sizes.items() if len({str(tiny.value(text, name)) for text in texts}) == 1}
