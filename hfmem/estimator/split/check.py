"""Splits that software refuses."""

from __future__ import annotations

from hfmem.estimator.parallel import Parallel
from hfmem.estimator.split.rules import Size, SplitRules
from hfmem.mapper.caches import KV, Cache, Combined, CrossKV, Indexed
from hfmem.mapper.values import Architecture, Dense, Experts, Layer, TensorPlan
from hfmem.refusals.splits import (
    ExpertRanksError,
    IndivisibleError,
    NoExpertsError,
    NoPlanError,
    TooManyRanksError,
    UnknownLayersError,
    UnsupportedSizeError,
)

__all__ = ["check_split"]


def check_split(architecture: Architecture, plan: Parallel, rules: SplitRules, *, pieces: int = 1) -> None:
    """Refuse a split that the software of these rules would refuse; each pipeline stage has `pieces` model chunks.

    Raises:
        InvalidScenarioError: with the sizes that do not fit together.
    """
    if plan.gpus == 1:
        return
    _check_sizes(plan, rules)
    shared = plan.tp * plan.dp
    if rules.ep_of_all and plan.ep not in (1, shared):
        raise ExpertRanksError(plan.ep, shared)
    layers = architecture.layers
    if layers is None:
        _check_blind(plan, rules)
        return
    if plan.pp * pieces > max(1, len(layers)):  # what has no layers is one piece
        raise TooManyRanksError("pp", plan.pp, len(layers), "layers", pieces=pieces)
    if rules.ep_needs_experts and plan.ep > 1 and not any(isinstance(layer.ffn, Experts) for layer in layers):
        raise NoExpertsError(plan.ep)
    if rules.tensors == "planned":
        _check_planned(architecture, plan)
    from hfmem.estimator.split.share import cache_ranks  # for split models only

    heads, _ = cache_ranks(architecture, plan, rules)
    for layer in dict.fromkeys(layers):  # equal layers have the same result
        _check_heads(layer, heads, rules)
        _check_ffn(layer, plan, rules)


def _sizes(plan: Parallel) -> dict[Size, int]:
    sizes: dict[Size, int] = {"tp": plan.tp, "pp": plan.pp, "dp": plan.dp, "ep": plan.ep, "cp": plan.cp}
    return {name: size for name, size in sizes.items() if size > 1}


def _check_sizes(plan: Parallel, rules: SplitRules) -> None:
    for name, size in _sizes(plan).items():
        if name not in rules.sizes:
            raise UnsupportedSizeError(name, size, rules.software)


def _check_planned(architecture: Architecture, plan: Parallel) -> None:
    """transformers 5.24.0, distributed/mixin.py:256-262: a size above one requires the class to have a plan."""
    told = architecture.tensor_plan or TensorPlan(name="")
    for option, size, there in (("tp", plan.tp, told.tensors), ("ep", plan.ep, told.experts)):
        if size > 1 and not there:
            raise NoPlanError(option, size, told.name, told.source)


def _check_blind(plan: Parallel, rules: SplitRules) -> None:
    wrong: dict[str, int] = {name: size for name, size in _sizes(plan).items() if name not in rules.blind}
    if wrong:
        raise UnknownLayersError(wrong)


def _check_heads(layer: Layer, tp: int, rules: SplitRules) -> None:
    if layer.heads % tp:
        raise IndivisibleError("tp", tp, layer.heads, "heads")
    for heads in _kv_heads(layer.cache, rules):
        # fewer KV heads than ranks are replicated, which needs a whole number of ranks per head
        if heads % tp and not (rules.fewer_kv_heads and tp % heads == 0):
            raise IndivisibleError("tp", tp, heads, "kv_heads", replicated=rules.fewer_kv_heads)


def _check_ffn(layer: Layer, plan: Parallel, rules: SplitRules) -> None:
    ffn = layer.ffn
    even = rules.tensors != "planned"  # a tp_plan may split unevenly
    if even and isinstance(ffn, Dense) and ffn.intermediate % plan.tp:
        raise IndivisibleError("tp", plan.tp, ffn.intermediate, "units")
    if not isinstance(ffn, Experts):
        return
    if plan.ep > ffn.count:
        raise TooManyRanksError("ep", plan.ep, ffn.count, "experts")
    if rules.even_experts and ffn.count % plan.ep:
        raise IndivisibleError("ep", plan.ep, ffn.count, "experts")
    # without expert parallelism each expert is split, in some engines also across data-parallel ranks
    parts = plan.tp * (plan.dp if rules.replicas_share_experts else 1)
    if even and plan.ep == 1 and ffn.intermediate % parts:
        raise IndivisibleError("", parts, ffn.intermediate, "expert_units")


def _kv_heads(cache: Cache, rules: SplitRules) -> tuple[int, ...]:
    """KV heads of a layer's cache; () for latents and recurrent states, which are not split by head."""
    if not isinstance(cache, rules.headed):
        return ()
    if isinstance(cache, KV | CrossKV):
        return (cache.heads,)
    if isinstance(cache, Indexed):
        return _kv_heads(cache.attention, rules)
    if isinstance(cache, Combined):
        return tuple(heads for part in cache.caches for heads in _kv_heads(part, rules))
    return ()
