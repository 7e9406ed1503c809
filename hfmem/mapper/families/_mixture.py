"""Mixtures of experts: which layers have experts, and the weights of all feed-forward networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import experts, router, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import feed_forward
from hfmem.mapper.families._dialect import GATED, Flag, flag
from hfmem.mapper.values import Dense, Experts, Ffn, TensorGroup

__all__ = ["DEEPSEEK", "Mixture", "after_the_first", "by_type", "mixture", "product"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A type's mixture of experts.

    Attributes:
        intermediate: config key of an expert's intermediate size.
        count, used: config keys of the number of experts, and of experts per token.
        sparse: which layers have experts: (facts, number of layers) -> a flag per layer.
        shared: intermediate size of the shared experts together; 0 for none.
        shared_gate: whether the shared experts have a gate with one output.
        expert_bias: whether experts and router have biases (gpt-oss).
        fixed: further router parameters per expert (1 for `e_score_correction_bias`).
        mlp_bias: bias of dense and shared networks.
        dense: config key of a dense layer's intermediate size, with `intermediate_size` as fallback.
    """

    intermediate: str = "intermediate_size"
    count: str = "num_local_experts"
    used: str = "num_experts_per_tok"
    sparse: Callable[[Facts, int], Sequence[bool]] = lambda _, layers: (True,) * layers
    shared: Callable[[Facts], int] = lambda _: 0
    shared_gate: bool = False
    expert_bias: bool = False
    fixed: int = 0
    mlp_bias: Flag = False
    dense: str = "intermediate_size"


def product(size: str, count: str) -> Callable[[Facts], int]:
    """The intermediate size of `count` shared experts together, of `size` each (config keys)."""
    return lambda facts: facts.integer(size) * facts.integer(count, default=0)


def by_type(default: Callable[[Facts, int], Sequence[bool]]) -> Callable[[Facts, int], Sequence[bool]]:
    """The layers that are not `dense` in `mlp_layer_types`; `default` where the file has no such list."""

    def sparse(facts: Facts, layers: int) -> Sequence[bool]:
        kinds = facts.items("mlp_layer_types")
        if kinds is None:
            return default(facts, layers)
        if len(kinds) != layers:
            raise InvalidConfigError("", f"mlp_layer_types has {len(kinds)} entries for {layers} layers")
        return [kind != "dense" for kind in kinds]

    return sparse


def after_the_first(facts: Facts, layers: int) -> Sequence[bool]:
    """All layers but the first `first_k_dense_replace` (modeling_deepseek_v3.py)."""
    first = facts.integer("first_k_dense_replace")
    return [index >= first for index in range(layers)]


DEEPSEEK = Mixture(
    intermediate="moe_intermediate_size",
    count="n_routed_experts",
    sparse=after_the_first,
    shared=product("moe_intermediate_size", "n_shared_experts"),
)


def mixture(facts: Facts, mixed: Mixture, hidden: int, layers: int) -> tuple[list[Ffn], list[TensorGroup]]:
    """The feed-forward network of each layer, and the weights of all networks."""
    # no experts: a dense model of the same type
    sparse = list(mixed.sparse(facts, layers)) if facts.integer(mixed.count) else [False] * layers
    groups = [
        *_dense(facts, hidden, mixed, sparse.count(False)),
        *_experts(facts, hidden, mixed, sparse.count(True)),
    ]
    return _ffns(facts, mixed, sparse), groups


def _ffns(facts: Facts, mixed: Mixture, sparse: Sequence[bool]) -> list[Ffn]:
    return [
        Experts(
            count=facts.integer(mixed.count),
            per_token=facts.integer(mixed.used),
            intermediate=facts.integer(mixed.intermediate),
            shared=mixed.shared(facts),
        )
        if has_experts
        else Dense(intermediate=_dense_units(facts, mixed), gated=True)
        for has_experts in sparse
    ]


def _dense(facts: Facts, hidden: int, mixed: Mixture, layers: int) -> list[TensorGroup]:
    if not layers:
        return []
    bias = flag(facts, mixed.mlp_bias)
    return feed_forward((hidden, _dense_units(facts, mixed)), GATED, count=layers, bias=bias)


def _dense_units(facts: Facts, mixed: Mixture) -> int:
    units = facts.optional_integer(mixed.dense)
    return facts.integer("intermediate_size") if units is None else units


def _experts(facts: Facts, hidden: int, mixed: Mixture, layers: int) -> list[TensorGroup]:
    """Experts, routers and shared experts. Counted as one matrix per expert, which the class stacks per layer."""
    if not layers:
        return []
    count, used = facts.integer(mixed.count), facts.integer(mixed.used)
    intermediate, shared = facts.integer(mixed.intermediate), mixed.shared(facts)
    groups = router(count, hidden, count=layers, bias=mixed.expert_bias)
    groups += weight("router", "e_score_correction_bias", count, count=layers * mixed.fixed)  # 0 without one
    groups += experts("gate_up_proj", count, used, 2 * intermediate, hidden, layers=layers)
    groups += experts("down_proj", count, used, hidden, intermediate, layers=layers)
    if mixed.expert_bias:
        # stacked biases have two dimensions, like matrices, but quantisers skip them
        groups += _unquantised(experts("gate_up_proj_bias", count, used, 2 * intermediate, layers=layers))
        groups += _unquantised(experts("down_proj_bias", count, used, hidden, layers=layers))
    if shared:
        bias = flag(facts, mixed.mlp_bias)
        groups += feed_forward((hidden, shared), GATED, count=layers, bias=bias, component="shared_experts")
    if mixed.shared_gate:
        groups += weight("router", "shared_expert_gate", 1, hidden, count=layers)
    return groups


def _unquantised(groups: list[TensorGroup]) -> list[TensorGroup]:
    return [replace(group, linear=False) for group in groups]
