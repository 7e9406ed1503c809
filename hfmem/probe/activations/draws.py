"""Random sizes for the variants: all different, and consistent where a class ties sizes to each other."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hfmem.mapper.sizes import OWN_WIDTH
from hfmem.probe import tiny
from hfmem.probe.activations.attempts import Config, works
from hfmem.probe.activations.keys import (
    CHUNK,
    ENCODER_HEADS,
    EXPERTS,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    KV,
    STATE_HEADS,
    STATE_WIDTH,
    WINDOWS,
    rotary_sections,
)

__all__ = ["Deck", "free", "joint"]


class Deck:
    """Draws sizes without replacement for each key, so that the values of no two keys are correlated."""

    def __init__(self, seed: str, *, heard: bool = False) -> None:
        self._random = random.Random(seed)  # noqa: S311 - sizes, no secrets
        self._chunks = (8, 16, 24) if heard else (16, 32, 64)  # of the tokens of an encoder, or of a scan
        self._left: dict[str, list[Any]] = {}

    def pick(self, key: str, values: Sequence[Any]) -> Any:
        """One of the values, not drawn for this key before unless all have been."""
        left = [value for value in self._left.get(key, []) if value in values]
        if not left:
            left = self._random.sample(list(values), len(values))
        value, *self._left[key] = left
        return value

    def size(self, key: str, value: int) -> int:
        """A size of the order of `value`: small for counts, a multiple of eight for widths."""
        chunks = (value,) if value >= 1024 else self._chunks
        return int(self.pick(key, chunks if CHUNK.search(key) else _values(key, value)))


def _values(key: str, value: int) -> Sequence[int]:
    if WINDOWS.search(key):
        return (value,) if value >= 1024 else (6, 8, 10, 12)
    if "vocab" in key:
        return range(104, 320, 8)
    if EXPERTS.search(key):
        return (8, 10, 12, 14, 16, 18)
    if value < 8:
        return range(max(2, value), value + 6)
    if "dim" in key and value <= 64:
        return range(8, 56, 8)
    return range(8 * max(2, value // 16), 8 * (value // 8 + 6), 8)


def free(base: Config, path: tuple[str, ...], key: str, value: int, deck: Deck) -> bool:
    """Whether the class accepts another size. Three are tried, as a single one may fail for other reasons."""
    return any(works(base, path, {key: deck.size(key, value)}) for _ in range(3))


def joint(base: Config, path: tuple[str, ...], fields: Mapping[str, int], deck: Deck) -> dict[str, Any]:
    """New sizes for all keys; keys that the class does not accept in combination keep their value."""
    for attempt in range(8):
        changes = _tied_sizes(base, path, fields, deck)
        changes |= {key: deck.size(key, value) for key, value in fields.items() if key not in changes}
        # a class that reads the width of a state from its heads alone is told from one that reads it from `expand`
        changes |= _tied_states(base, path, changes, deck, loose=attempt < _LOOSE)
        changes |= {key: changes["vocab_size"] for key in _VOCABULARIES if {key, "vocab_size"} <= changes.keys()}
        if works(base, path, changes):
            return changes
    for dropped in [*fields]:
        fewer = {key: value for key, value in changes.items() if key != dropped}
        if works(base, path, fewer):
            return fewer
    tied = _tied_sizes(base, path, fields, deck)
    changes = tied if works(base, path, tied) else {}
    for key, value in fields.items():
        if key not in changes:
            more = {**changes, key: deck.size(key, value)}
            changes = more if works(base, path, more) else changes
    return changes


_LOOSE: Final = 2  # attempts with heads of a state that do not fill the expanded hidden size

_VOCABULARIES: Final = ("decoder_vocab_size",)  # the same as `vocab_size` if embeddings are shared

_MOST_ROTARY: Final = 16  # elements; larger ones would need heads too large for a fast run


def _tied_sizes(base: Config, path: tuple[str, ...], fields: Mapping[str, int], deck: Deck) -> dict[str, Any]:
    """Query heads as a multiple of KV heads, and a hidden size as a multiple of query heads."""
    text = tiny.at(tiny.build(base), path)
    names = {group: next((key for key in group if key in fields), None) for group in (HEADS, KV, HIDDEN, HEAD_DIM)}
    heads, kv, hidden, dim = (names[group] for group in (HEADS, KV, HIDDEN, HEAD_DIM))
    changes: dict[str, Any] = {}
    if heads is None or hidden is None:
        return changes
    groups, pairs = deck.pick("heads", ((2, 2), (3, 2), (2, 3), (3, 3), (2, 4), (4, 2), (5, 2)))
    count = groups * pairs
    same = kv is not None and tiny.value(text, kv) == tiny.value(text, heads)
    changes[heads] = count
    if kv is not None:
        changes[kv] = count if same else pairs
    step = 8 if rotary_sections(text) is None else 32
    rotary = getattr(text, "rotary_dim", None)
    if isinstance(rotary, int) and rotary <= _MOST_ROTARY:
        step = max(step, 2 * rotary)  # so that only part of a head is rotated
    changes[hidden] = count * step * deck.pick("hidden", (1, 2, 3) if count < 8 else (1, 2))
    if ENCODER_HEADS in fields and heads != ENCODER_HEADS:
        others = [number for number in (2, 3, 4, 6, 8, 10, 12, 16) if changes[hidden] % number == 0]
        changes[ENCODER_HEADS] = deck.pick(ENCODER_HEADS, others)
    if dim is not None:
        changes[dim] = step * deck.pick("head_dim", (1, 2, 3, 4))
    changes |= {
        key: changes[hidden] for key in OWN_WIDTH if key in fields and tiny.value(text, key) == tiny.value(text, hidden)
    }
    sections = rotary_sections(text)
    if sections is not None:
        width = changes.get(dim, changes[hidden] // count) if dim else changes[hidden] // count
        old = tiny.value(text, dim) if dim else tiny.value(text, hidden) // tiny.value(text, heads)
        rope = dict(text.rope_parameters)
        changes["rope_parameters"] = {**rope, "mrope_section": [size * width // old for size in sections]}
    return changes


def _tied_states(
    base: Config, path: tuple[str, ...], changes: Mapping[str, Any], deck: Deck, *, loose: bool
) -> dict[str, Any]:
    """Heads of a recurrent state that are divisible by groups and fill the expanded hidden size, or, with `loose`, more
    than that; value heads as a multiple of key heads."""
    text = tiny.at(tiny.build(base), path)
    found: dict[str, Any] = {}
    hidden = next((key for key in HIDDEN if tiny.value(text, key) is not None), None)
    for heads, size, groups, expand in STATE_HEADS:
        if all(isinstance(tiny.value(text, key), int) for key in (heads, size, groups, expand)) and hidden:
            factor = deck.pick("expand", (2, 3))
            width = factor * changes.get(hidden, getattr(text, hidden))
            if isinstance(getattr(text, STATE_WIDTH, None), int):
                found[STATE_WIDTH] = width
            sizes = [d for d in (8, 16, 24, 32, 48) if width % d == 0 and width // d > 3]
            found[expand], found[size] = factor, deck.pick("state heads", sizes)
            found[heads] = width // found[size] + (deck.pick("more heads", (1, 2, 3)) if loose else 0)
            found[groups] = deck.pick("groups", [n for n in (1, 2, 3, 4) if found[heads] % n == 0])
            break
    if hasattr(text, "linear_num_key_heads"):
        found["linear_num_key_heads"] = deck.pick("key heads", (2, 3, 4, 5))
        if hasattr(text, "linear_key_head_dim"):  # different, as one source line allocates both
            pairs = ((8, 16), (16, 24), (24, 8), (32, 40), (40, 16), (48, 32), (16, 32))
            found["linear_key_head_dim"], found["linear_value_head_dim"] = deck.pick("state dims", pairs)
        found["linear_num_value_heads"] = found["linear_num_key_heads"] * deck.pick("value heads", (2, 3, 4))
    return found
