"""What a configuration says the files hold: its parameters as they are stored under its quantisation.

Only the configuration is there, so that modules have no names: the lists of modules that a quantiser left, or took, are
held against the names that such modules usually have, layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from hfmem.dtypes import stored_dtype
from hfmem.mapper.caches import State
from hfmem.mapper.packing import declared_quantisation, quantisation_of
from hfmem.mapper.schemes import Scheme, algorithm, fp4_exponents, group_scheme, scheme_of
from hfmem.mapper.values import Architecture, Dense, Experts, ParameterTable, TensorGroup

if TYPE_CHECKING:
    from hfmem.mapper.entries import Entries
    from hfmem.mapper.expressions import Budget

__all__ = ["as_stored"]

_PARENTS: Final[dict[str, tuple[str, ...]]] = {
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

_FUSED: Final[dict[str, tuple[str, ...]]] = {
    "gate_up_proj": ("gate_proj", "up_proj", "w1", "w3"),
    "down_proj": ("w2",),
}

_SCALED_LATER: Final = ("compressor.", "indexer.kv_proj", "indexer.gate_proj", "indexer.weights_proj")
"""What DeepSeek's files keep in 16 bits without a list that says so: what makes the keys of its indexer and the entries
of its compressors (modeling_deepseek_v4.py)."""

_MOST_STEPS: Final = 1_000_000
"""Steps that the patterns of a configuration may take together, a second or two; what comes later speaks of nothing."""

_MOST_FORMATS: Final = 64  # of a mixed checkpoint, which has two or three

_BLOCKS_ONLY: Final = ("gptq", "awq", "auto-round")


def as_stored(described: ParameterTable, config: Mapping[str, Any], architecture: Architecture) -> ParameterTable:
    """The parameters that a configuration describes, as its quantisation stores them; the same where it declares none,
    or one whose layout is not known."""
    own, found = declared_quantisation(config), quantisation_of(config)
    if own is None:
        return described
    inner = found.get("quantization")
    facts = {**found, **inner} if isinstance(inner, Mapping) else found
    rules = list(_rules(own.method, own.bits, facts, config))
    if not rules:
        return described
    names = _Names(architecture, beside=_dense_beside(described, architecture))
    groups: list[TensorGroup] = []
    for group in described.groups:
        groups += _applied(group, rules, names)
    return ParameterTable(groups=tuple(groups))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What one scheme is for.

    Attributes:
        scheme: the layout.
        taken: modules, as the configuration writes them; empty for all linear ones.
        left: modules that stay.
        components: which it looks at; empty for all.
        head: whether the head is a linear layer like others.
    """

    scheme: Scheme
    taken: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    components: frozenset[str] = frozenset()
    head: bool = False

    def share(self, group: TensorGroup, names: _Names) -> Fraction:
        """The part of a group that it packs."""
        if self.components and group.component not in self.components:
            return Fraction(0)
        if not (group.linear or (self.head and group.component == "lm_head" and len(group.shape) == 2)):
            return Fraction(0)
        if group.role.startswith(_SCALED_LATER):
            return Fraction(0)
        taken = names.share(group, self.taken) if self.taken else Fraction(1)
        return max(Fraction(0), taken - names.share(group, self.left)) if self.left else taken


_LINEAR: Final = ("Linear",)


def _rules(method: str, bits: int, facts: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[_Rule]:
    left = tuple(
        _words(facts, "modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "llm_int8_skip_modules")
    )
    if method == "compressed-tensors":
        groups = facts.get("config_groups")
        for group in groups.values() if isinstance(groups, Mapping) else ():
            scheme = group_scheme(group) if isinstance(group, Mapping) else None
            if scheme is not None:
                targets = tuple(word for word in _words(group, "targets") if word not in _LINEAR)
                yield _Rule(scheme=scheme, taken=targets, left=left, head=True)
        return
    layers = facts.get("quantized_layers")
    if isinstance(layers, Mapping) and layers:
        yield from _mixed(layers)
    if method == "fp8" and "fp4" in (config.get("expert_dtype"), facts.get("expert_dtype")):
        yield _Rule(scheme=fp4_exponents, components=frozenset({"experts"}))
    scheme = scheme_of(method, facts, bits)
    if scheme is None:
        return
    components = frozenset({"experts"}) if method == "mxfp4" else frozenset()
    if method in _BLOCKS_ONLY:
        components = frozenset(_PARENTS)
    # the list of a mixed checkpoint speaks of what its own layers leave, not of what the rest does
    yield _Rule(scheme=scheme, left=() if layers and method == "fp8" else left, components=components)


def _mixed(layers: Mapping[str, Any]) -> Iterator[_Rule]:
    """ModelOpt's list of layers, each with its format."""
    by_word: dict[str, list[str]] = {}
    for name, entry in layers.items():
        word = entry.get("quant_algo") if isinstance(entry, Mapping) else entry
        by_word.setdefault(str(word), []).append(str(name))
    for word, names in islice(by_word.items(), _MOST_FORMATS):
        scheme = algorithm(word, {})
        if scheme is not None:
            yield _Rule(scheme=scheme, taken=tuple(names), left=(), head=True)


def _words(facts: Mapping[str, Any], *keys: str) -> Iterator[str]:
    for key in keys:
        found = facts.get(key)
        yield from (word for word in found if isinstance(word, str)) if isinstance(found, list) else ()


def _applied(group: TensorGroup, rules: Sequence[_Rule], names: _Names) -> Iterator[TensorGroup]:
    """What a group becomes: the part of each rule, in their order, and the rest as it was."""
    left = group
    for rule in rules:
        if not left.count:
            return
        count = min(left.count, round(group.count * rule.share(group, names)))
        if count:
            yield from _packed(_part(left, count), rule.scheme)
            left = _part(left, left.count - count)
    if left.count:
        yield left


def _part(group: TensorGroup, count: int) -> TensorGroup:
    if count == group.count:
        return group
    return replace(
        group,
        count=count,
        parameters=group.parameters * count // group.count,
        active=group.active * count // group.count,
    )


def _packed(group: TensorGroup, scheme: Scheme) -> Iterator[TensorGroup]:
    for number, (suffix, dtype, shape) in enumerate(scheme(group.shape)):
        first = number == 0
        found = stored_dtype(dtype)
        stored = replace(
            group,
            role=group.role + suffix,
            shape=shape,
            dtype=dtype,
            parameters=group.parameters if first else 0,
            active=group.active if first else 0,
            linear=group.linear and first and not suffix,
            scale=not first,
        )
        yield replace(stored, stored_bytes=found.nbytes(stored.elements) if found else None)


def _dense_beside(described: ParameterTable, architecture: Architecture) -> bool:
    """Whether each layer has a dense network and experts beside it, which then are no part of `mlp`."""
    layers = architecture.layers or ()
    mixed = bool(layers) and all(isinstance(layer.ffn, Experts) for layer in layers)
    return mixed and any(group.component == "mlp" for group in described.groups)


class _Names:
    """Which layers of a model the entries of a list speak of."""

    def __init__(self, architecture: Architecture, *, beside: bool) -> None:
        self._beside = beside
        self._lists: dict[tuple[str, ...], Entries] = {}
        self._budget: Budget | None = None
        layers = architecture.layers or ()
        self._depth = len(layers)
        every = frozenset(range(self._depth))
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

    def share(self, group: TensorGroup, entries: tuple[str, ...]) -> Fraction:
        """The part of a group's tensors that the entries speak of."""
        listed = self._listed(entries)
        if group.component not in _PARENTS:
            return Fraction(int(listed.name(_OUTSIDE.get(group.component, (group.component,)))))
        layers = self._layers[group.component]
        return Fraction(len(listed.layers(self._inside(group), layers)), len(layers) or 1)

    def _listed(self, entries: tuple[str, ...]) -> Entries:
        """A list, sorted when it is first asked."""
        from hfmem.mapper.entries import Entries  # for quantised models only
        from hfmem.mapper.expressions import Budget

        if entries not in self._lists:
            self._budget = self._budget or Budget(_MOST_STEPS)
            self._lists[entries] = Entries(entries, self._budget)
        return self._lists[entries]

    def _inside(self, group: TensorGroup) -> tuple[str, ...]:
        """Names inside a layer that a group's modules may have."""
        tails = dict.fromkeys((group.module, group.role, *_FUSED.get(group.module, ())))
        names = tuple(f"{parent}.{tail}" for parent in _PARENTS[group.component] for tail in tails)
        if self._beside and group.component == "experts":
            return tuple(name for name in names if not name.startswith("mlp."))
        return names
