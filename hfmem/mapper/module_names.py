"""Which layers the entries of a quantiser's list of modules speak of.

Only the configuration is there, so that modules have no names: entries are held against the names that such modules
usually have, layer by layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from functools import lru_cache
from typing import Final

from hfmem.mapper.caches import State
from hfmem.mapper.values import Architecture, Dense, Experts, TensorGroup

__all__ = ["PARENTS", "Names", "compiled"]

PARENTS: Final[dict[str, tuple[str, ...]]] = {
    "attention": ("self_attn", "attn", "attention", "mixer"),
    "state": ("linear_attn", "mamba", "mixer", "self_attn"),
    "mlp": ("mlp", "feed_forward", "ffn", "mixer"),
    "experts": (
        "mlp.experts.0",
        "block_sparse_moe.experts.0",
        "feed_forward.experts.0",
        "ffn.experts.0",
        "mixer.experts.0",
        "experts.0",
    ),
    "shared_experts": (
        "mlp.shared_experts",
        "mlp.shared_expert",
        "feed_forward.shared_expert",
        "ffn.shared_experts",
        "mixer.shared_experts",
    ),
}
"""What the modules of a component hang on inside a layer."""

_OUTSIDE: Final[dict[str, tuple[str, ...]]] = {
    "lm_head": ("lm_head", "head", "language_model.lm_head"),
    "vision": (
        "visual.blocks.0.attn",
        "model.visual.blocks.0.attn",
        "vision_tower.encoder",
        "model.vision_tower.encoder",
        "vision_model.encoder",
    ),
    "audio": ("audio_tower.layers.0", "model.audio_tower.layers.0"),
    "projector": ("multi_modal_projector", "model.embed_vision", "visual.merger", "mm_projector"),
}
"""The same for what stands outside of the decoder's layers."""

_ROOTS: Final = (
    "model.layers.{}.",
    "model.language_model.layers.{}.",
    "language_model.model.layers.{}.",
    "layers.{}.",
    "transformer.h.{}.",
    "backbone.layers.{}.",
)

_FUSED: Final[dict[str, tuple[str, ...]]] = {
    "gate_up_proj": ("gate_proj", "up_proj", "w1", "w3"),
    "down_proj": ("w2",),
}

_IN_LAYER: Final = re.compile(r"^(?:.*?\.)?(?:layers|h|blocks|layer)\.(\d{1,9}|\*)(?:\.(.*)|(\*))?$")
_ONE: Final = frozenset({0})
"""What stands outside of the decoder's layers is all or nothing: one layer, as it were."""

_BY_NUMBER: Final = re.compile(r"layers|\d|\\[dDwWsS]|\[")
"""Regular expressions that may be about some layers and not about others."""

_ONE_LAYER: Final = re.compile(r"(?:layers|blocks|h)\\?\.(\d+)(?:\\\.|\.(?=[a-z]))")
"""Those that can be about one layer only, where they have no `|`."""

_MOST_MATCHES: Final = 3_000_000
"""Names that are held against regular expressions, of one model: about two seconds."""


class Names:
    """Which layers of a model the entries of a list speak of.

    Attributes:
        unread: regular expressions that were not held against all names, as there are too many.
    """

    def __init__(self, architecture: Architecture, *, beside: bool) -> None:
        self.unread: dict[str, None] = {}
        self._left = _MOST_MATCHES
        self._beside = beside
        layers = architecture.layers or ()
        every = frozenset(range(len(layers)))
        dense = frozenset(i for i, layer in enumerate(layers) if isinstance(layer.ffn, Dense))
        mixed = frozenset(i for i, layer in enumerate(layers) if isinstance(layer.ffn, Experts))
        state = frozenset(i for i, layer in enumerate(layers) if isinstance(layer.cache, State))
        self._layers: dict[str, frozenset[int]] = {
            "mlp": dense or every,
            "experts": mixed or every,
            "shared_experts": mixed or every,
            "state": state or every,
            "attention": (every - state) or every,
        }

    def layers(self, group: TensorGroup) -> frozenset[int]:
        """The layers that a group has tensors in."""
        return self._layers.get(group.component) or _ONE

    def spoken_of(self, group: TensorGroup, entries: Iterable[str]) -> frozenset[int]:
        """Those of them whose modules the entries speak of."""
        layers = self.layers(group)
        if group.component not in PARENTS:
            return layers if any(_outside(group, entry) for entry in entries) else frozenset()
        found: set[int] = set()
        for index, tail in _sorted(entries):
            found |= self._inside(group, index, tail, layers)
            if len(found) == len(layers):
                break
        return frozenset(found)

    def _inside(
        self, group: TensorGroup, index: frozenset[int] | None, tail: str, layers: frozenset[int]
    ) -> frozenset[int]:
        about = layers if index is None else layers & index
        candidates = _candidates(group)
        if self._beside and group.component == "experts":
            candidates = tuple(name for name in candidates if not name.startswith("mlp."))
        if not about or not candidates:
            return frozenset()
        if tail.startswith("re:"):
            return self._matched(tail, candidates, about)
        return about if any(_speaks_of(tail, name) for name in candidates) else frozenset()

    def _matched(self, entry: str, candidates: tuple[str, ...], about: frozenset[int]) -> frozenset[int]:
        """The layers in which a regular expression fits the whole name of one of the modules."""
        rule = compiled(entry)
        if rule is None:
            return frozenset()
        anywhere = rule.pattern.startswith(".*") and "model" not in rule.pattern
        roots = _ROOTS[:1] if anywhere else _ROOTS
        if not _BY_NUMBER.search(rule.pattern):
            first = next(iter(about))
            return about if _fits(rule, candidates, roots, first) else frozenset()
        one = None if "|" in rule.pattern else _ONE_LAYER.search(rule.pattern)
        about &= about if one is None else frozenset({int(one[1])})
        self._left -= len(about) * len(candidates) * len(roots)
        if self._left < 0:
            self.unread[entry] = None
            return frozenset()
        return frozenset(layer for layer in about if _fits(rule, candidates, roots, layer))


def _fits(rule: re.Pattern[str], candidates: Iterable[str], roots: Iterable[str], layer: int) -> bool:
    return any(rule.match(root.format(layer) + name) for name in candidates for root in roots)


def _outside(group: TensorGroup, entry: str) -> bool:
    names = _OUTSIDE.get(group.component, (group.component,))
    if entry.startswith("re:"):
        rule = compiled(entry)
        return rule is not None and any(rule.match(name) for name in names)
    return any(_speaks_of(entry, name) for name in names)


def _sorted(entries: Iterable[str]) -> Iterator[tuple[frozenset[int] | None, str]]:
    """Entries that differ in the number of their layer only, as one: the layers, and what follows them."""
    numbered: dict[str, set[int]] = {}
    for entry in entries:
        match = None if entry.startswith("re:") else _IN_LAYER.match(entry)
        if match is None:
            yield None, entry
        elif match[1] == "*":
            yield None, f"/{match[2] or match[3] or ''}"
        else:
            numbered.setdefault(f"/{match[2] or match[3] or ''}", set()).add(int(match[1]))
    for tail, found in numbered.items():
        yield frozenset(found), tail


def _candidates(group: TensorGroup) -> tuple[str, ...]:
    """Names inside a layer that a group's modules may have."""
    tails = dict.fromkeys((group.module, group.role, *_FUSED.get(group.module, ())))
    return tuple(f"{parent}.{tail}" for parent in PARENTS[group.component] for tail in tails)


def _speaks_of(entry: str, name: str) -> bool:
    """Whether an entry that is no regular expression is about a module. After a slash it is what follows the layer's
    number, which is about all that hangs on it; else it is a word or path anywhere in the name, or a pattern."""
    if entry.startswith("/"):
        tail = entry[1:].rstrip(".*")
        return (
            not tail or name == tail or name.startswith(f"{tail}.") or (entry.endswith("*") and name.startswith(tail))
        )
    if "*" in entry:
        return fnmatch(name, entry) or any(fnmatch(root.format(0) + name, entry) for root in _ROOTS)
    return f".{entry}." in f".{name}."


_LONGEST: Final = 400
_REPEATED_GROUP: Final = re.compile(r"\)[*+{]")
_MOST_REPEATS: Final = 5


@lru_cache(maxsize=256)
def compiled(entry: str) -> re.Pattern[str] | None:
    """A list's regular expression (an entry that begins with `re:`); None for one that is none, or that could take for
    ever, which is about nothing."""
    text = entry.removeprefix("re:")
    repeats = sum(text.count(sign) for sign in "*+{")
    if len(text) > _LONGEST or repeats > _MOST_REPEATS or _REPEATED_GROUP.search(text):
        return None
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return None
