"""Splits that software refuses; the only place with the sentences of the reasons."""

from __future__ import annotations

from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.split.rules import Size, SplitRules
from hfmem.estimator.split.share import cache_ranks
from hfmem.mapper.caches import KV, Cache, Combined, CrossKV, Indexed
from hfmem.mapper.values import Architecture, Dense, Experts, Layer, TensorPlan

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
        raise _refused(
            f"--ep {plan.ep} is not tp × dp = {shared}: experts are split over all ranks of a stage or over none"
        )
    layers = architecture.layers
    if layers is None:
        _check_blind(plan, rules)
        return
    if plan.pp * pieces > len(layers):
        times = f" × --virtual-stages {pieces}" if pieces > 1 else ""
        raise _refused(f"--pp {plan.pp}{times} is more than the model's {len(layers)} layers")
    if rules.ep_needs_experts and plan.ep > 1 and not any(isinstance(layer.ffn, Experts) for layer in layers):
        raise _refused(f"--ep {plan.ep} splits experts, but the model has none")
    if rules.tensors == "planned":
        _check_planned(architecture, plan)
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
            raise _refused(f"--{name} {size}: {rules.software} does not support it")


def _check_planned(architecture: Architecture, plan: Parallel) -> None:
    """transformers 5.24.0, distributed/mixin.py:256-262: a size above one requires the class to have a plan."""
    told = architecture.tensor_plan or TensorPlan(name="this model")
    for option, size, there in (("tp", plan.tp, told.tensors), ("ep", plan.ep, told.experts)):
        if size > 1 and not there:
            known = f"has no {option}_plan ({told.source})" if told.source else f"has no {option}_plan that is known"
            raise _refused(f"--{option} {size}: {told.name} {known}")


def _check_blind(plan: Parallel, rules: SplitRules) -> None:
    wrong = [f"--{name} {size}" for name, size in _sizes(plan).items() if name not in rules.blind]
    if wrong:
        raise _refused(f"the layers of this model are unknown, so it cannot be split by {' '.join(wrong)}")


def _check_heads(layer: Layer, tp: int, rules: SplitRules) -> None:
    if layer.heads % tp:
        raise _refused(f"--tp {tp} does not divide the model's {layer.heads} attention heads")
    for heads in _kv_heads(layer.cache, rules):
        # fewer KV heads than ranks are replicated, which needs a whole number of ranks per head
        if heads % tp and not (rules.fewer_kv_heads and tp % heads == 0):
            rest = "" if rules.fewer_kv_heads else ", which are not replicated here"
            raise _refused(f"--tp {tp} does not divide the model's {heads} key/value heads{rest}")


def _check_ffn(layer: Layer, plan: Parallel, rules: SplitRules) -> None:
    ffn = layer.ffn
    even = rules.tensors != "planned"  # a tp_plan may split unevenly
    if even and isinstance(ffn, Dense) and ffn.intermediate % plan.tp:
        raise _refused(f"--tp {plan.tp} does not divide the {ffn.intermediate} units of the MLP")
    if not isinstance(ffn, Experts):
        return
    if plan.ep > ffn.count:
        raise _refused(f"--ep {plan.ep} is more than the model's {ffn.count} experts")
    if rules.even_experts and ffn.count % plan.ep:
        raise _refused(f"--ep {plan.ep} does not divide the model's {ffn.count} experts")
    # without expert parallelism each expert is split, in some engines also across data-parallel ranks
    parts = plan.tp * (plan.dp if rules.replicas_share_experts else 1)
    if even and plan.ep == 1 and ffn.intermediate % parts:
        raise _refused(f"{parts} ranks do not divide the {ffn.intermediate} units of an expert; try --ep")


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


def _refused(reason: str) -> InvalidScenarioError:
    return InvalidScenarioError("", reason)
