"""The share of a tensor on one rank, from its pipeline stage and from how tensor parallelism splits it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Final, Literal, Protocol

from hfmem.estimator.parallel import Parallel
from hfmem.estimator.split.rules import SplitRules
from hfmem.estimator.split.stages import Stage
from hfmem.mapper.caches import Cache, Combined, State
from hfmem.mapper.values import Along, Architecture, Component, Cut, Dense, Experts, Layer

__all__ = ["LayerShares", "Place", "Share", "Tensor", "cache_ranks", "owned", "place_of"]

Place = Literal["before", "inside", "after"]

_WHOLE: Final = Fraction(1)


class Tensor(Protocol):
    """The properties of a tensor that decide how it is split.

    Attributes:
        component: the part of the model it belongs to.
        shape: its shape.
        linear: whether it is the weight of a linear layer.
        cut: how it is split (`TensorGroup.cut`); `repeated`: replicated on each rank, under any rules.
        along: the dimension that the class's tp_plan splits.
    """

    @property
    def component(self) -> Component: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def linear(self) -> bool: ...

    @property
    def cut(self) -> Cut | Literal["repeated"]: ...

    @property
    def along(self) -> Along: ...


def _has_experts(layer: Layer) -> bool:
    return isinstance(layer.ffn, Experts)


def _has_state(cache: Cache) -> bool:
    return isinstance(cache, State) or (isinstance(cache, Combined) and any(map(_has_state, cache.caches)))


_BEFORE: Final = ("embedding", "vision", "audio", "projector")
_AFTER: Final = ("lm_head",)
_OWNERS: Final[dict[str, Callable[[Layer], bool]]] = {
    "experts": _has_experts,
    "shared_experts": _has_experts,
    "router": _has_experts,
    "mlp": lambda layer: isinstance(layer.ffn, Dense),
    "attention": lambda layer: layer.heads > 0,
    "state": lambda layer: _has_state(layer.cache),
    "norm": lambda _: True,
}
_VOCABULARY: Final = ("embedding", "lm_head")
_TOWERS: Final = ("vision", "audio")
_SHARED: Final = ("attention", "mlp", "experts", "shared_experts", "state")


def place_of(component: Component, rules: SplitRules) -> Place:
    """Whether a component is before, inside or after the layers."""
    if component in _BEFORE:
        return "before"
    if component in _AFTER:
        return "after"
    return "inside" if component in _OWNERS else rules.rest


def owned(layer: Layer, component: Component) -> bool:
    """Whether a layer has tensors of a component (of one that is inside the layers)."""
    return component not in _OWNERS or _OWNERS[component](layer)


class LayerShares:
    """The fraction of a component's tensors in a range of layers, counting only layers that have the component. Counts
    are cached as prefix sums, so that it can be asked for every layer of a deep model."""

    def __init__(self, architecture: Architecture, rules: SplitRules) -> None:
        self._layers = architecture.layers or ()
        self._rules = rules
        self._before: dict[Component, tuple[int, ...]] = {}

    def of(self, component: Component, start: int, end: int) -> Fraction:
        """The fraction in the layers from `start` to before `end`."""
        depth = len(self._layers)
        if not depth or (start <= 0 and end >= depth):
            return _WHOLE
        before = self.owners_before(component)
        if not before[-1]:  # no known layer has the component, e.g. because its name was not recognised
            if self._rules.unowned == "whole":
                return _WHOLE
            before = tuple(range(depth + 1))
        first, last = min(max(0, start), depth), min(max(0, end), depth)
        return Fraction(max(0, before[last] - before[first]), before[-1])

    def owners_before(self, component: Component) -> tuple[int, ...]:
        """Prefix sums: how many layers before each one have the component; the last entry is the total."""
        if component not in self._before:
            owners = (owned(layer, component) for layer in self._layers)
            self._before[component] = tuple(accumulate(owners, initial=0))
        return self._before[component]


def cache_ranks(architecture: Architecture, plan: Parallel, rules: SplitRules) -> tuple[int, int]:
    """Over how many tensor-parallel ranks KV heads are split, and state channels."""
    if rules.tensors != "planned":
        return plan.tp, plan.tp
    told = architecture.tensor_plan
    return (plan.tp if told and told.heads else 1), (plan.tp if told and told.states else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The share of each tensor on one rank of a stage."""

    architecture: Architecture
    plan: Parallel
    stage: Stage
    rules: SplitRules

    def of(self, tensor: Tensor) -> Fraction:
        """The share of all tensors of this kind."""
        return self.of_layers(tensor.component) * self.of_one(tensor)

    def of_layers(self, component: Component) -> Fraction:
        """The fraction of a component's tensors on this stage. The last stage has a tied embedding too, as its head."""
        place = place_of(component, self.rules)
        if place == "inside":
            return LayerShares(self.architecture, self.rules).of(component, self.stage.start, self.stage.end)
        if place == "after":
            return Fraction(self.stage.last)
        tied = component == "embedding" and self.architecture.tied_embeddings is True
        return Fraction(self.stage.first or (tied and self.stage.last))

    def of_one(self, tensor: Tensor) -> Fraction:
        """The fraction of one tensor on a rank."""
        plan, rules, component = self.plan, self.rules, tensor.component
        if component == "experts" and (plan.ep > 1 or rules.replicas_share_experts):
            ranks = max(plan.ep, plan.tp) if rules.cuts_experts else plan.ep
            return Fraction(1, ranks if plan.ep > 1 else plan.tp * plan.dp)
        if tensor.cut == "repeated":
            return _WHOLE
        if rules.tensors == "planned":
            return self._planned(tensor)
        if component in _VOCABULARY:
            return self._vocabulary(tensor)
        if rules.tensors == "matrices":
            return Fraction(1, plan.tp) if tensor.linear else _WHOLE
        split = (component in _TOWERS and rules.towers) or (component == "projector" and rules.projectors)
        tower = split and tensor.linear and len(tensor.shape) == 2
        return self._heads_or_units(tensor) if tower or component in _SHARED else _WHOLE

    def _planned(self, tensor: Tensor) -> Fraction:
        """A tensor split by the class's tp_plan: where ranks do not divide the dimension, the first ranks get one more
        (`Shard` of torch.distributed.tensor, used by transformers' distributed/tensor_parallel.py)."""
        if tensor.along == "whole" or not tensor.shape or self.plan.tp == 1:
            return _WHOLE
        size = tensor.shape[-1] if tensor.along == "columns" else tensor.shape[max(0, len(tensor.shape) - 2)]
        # "pairs": gate and up projection in one tensor, each split on its own
        matrices = 2 if tensor.along == "pairs" and size % 2 == 0 else 1
        return Fraction(matrices * -(-size // (matrices * self.plan.tp)), max(1, size))

    def _vocabulary(self, tensor: Tensor) -> Fraction:
        """An embedding or the head: rows are split, after padding of the vocabulary."""
        tp, rules = self.plan.tp, self.rules
        rows = tensor.shape[0] if tensor.shape else 1
        # position tables and the like have another number of rows than the vocabulary
        whole = rules.embedding == "vocabulary" and rows != self.architecture.vocab_size
        if tensor.component == "embedding" and whole:
            return _WHOLE
        padded = -(-rows // rules.vocabulary_padding) * rules.vocabulary_padding
        return Fraction(padded, max(1, rows) * tp)

    def _heads_or_units(self, tensor: Tensor) -> Fraction:
        """A tensor split by heads or intermediate units. With fewer KV heads than ranks, heads may be replicated."""
        tp, kv = self.plan.tp, self.architecture.kv_heads or 1
        keys = Fraction(1, min(tp, kv) if self.rules.kv_weights == "repeated" else tp)
        # MLA's latent belongs to no head; a row-parallel bias is added after the all-reduce, so every rank has it
        if tensor.cut in ("latent", "output_bias"):
            return _WHOLE
        if tensor.cut == "keys_values":
            return keys
        if tensor.cut == "fused_qkv":
            # query heads are always split; keys and values are 2 × kv of heads + 2 × kv equal parts
            heads = self.architecture.attention_heads or kv
            return (Fraction(heads, tp) + 2 * kv * keys) / (heads + 2 * kv)
        return Fraction(1, tp)
