"""The part of a model on one rank: its layers, and its shards of each tensor and of each layer's cache."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hfmem.estimator.parallel import Parallel
from hfmem.estimator.split.rules import SplitRules
from hfmem.estimator.split.stages import Stage
from hfmem.mapper.caches import KV, Cache, Combined, CrossKV, Indexed, Latent, Shared, State
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import ParameterTable, TensorGroup

if TYPE_CHECKING:
    from fractions import Fraction

    from hfmem.estimator.split.share import Share

__all__ = ["rank_model"]


def rank_model(model: Model, plan: Parallel, stage: Stage, rules: SplitRules) -> Model:
    """The part of the model on one rank of a pipeline stage."""
    architecture = model.architecture
    if plan.gpus == 1 or architecture.layers is None:
        return model
    from hfmem.estimator.split.share import Share, cache_ranks  # for split models only

    mine = architecture.layers[stage.start : stage.end]
    heads, states = cache_ranks(architecture, plan, rules)
    layers = tuple(replace(layer, cache=_shard_cache(layer.cache, heads, states)) for layer in mine)
    table = model.parameters
    if table is not None:
        share = Share(architecture=architecture, plan=plan, stage=stage, rules=rules)
        groups = (_group(group, share) for group in table.groups)
        table = ParameterTable(groups=tuple(group for group in groups if group is not None))
    return replace(model, architecture=replace(architecture, layers=layers, layer_count=len(layers)), parameters=table)


def _shard_cache(cache: Cache, tp: int, states: int) -> Cache:
    """A layer's cache on one rank, with heads split over `tp` ranks and state channels over `states`. Latents and
    indexer keys belong to no head, and are replicated on every rank."""
    if isinstance(cache, KV | CrossKV | Latent):  # rounded up: fewer heads than ranks are replicated
        return replace(cache, heads=max(1, -(-cache.heads // tp)))
    if isinstance(cache, State):
        conv, recurrent, channels = (-(-n // states) for n in (cache.conv, cache.recurrent, cache.channels))
        return replace(cache, conv=conv, recurrent=recurrent, channels=channels)
    if isinstance(cache, Indexed):
        return replace(cache, attention=_shard_cache(cache.attention, tp, states))
    if isinstance(cache, Shared):
        return replace(cache, source=replace(cache.source, heads=max(1, -(-cache.source.heads // tp))))
    if isinstance(cache, Combined):
        return replace(cache, caches=tuple(_shard_cache(part, tp, states) for part in cache.caches))
    return cache


def _group(group: TensorGroup, share: Share) -> TensorGroup | None:
    """A rank's shard of a group; None if it has none. Counts and sizes are integers, so shares are rounded up."""
    from fractions import Fraction

    layers = share.of_layers(group.component)
    if layers == 0:
        return None
    count = _part(group.count, layers)
    part = share.of_one(group)
    whole = Fraction(count, group.count) * part
    return replace(
        group,
        count=count,
        shape=_divided(group.shape, part),
        stored_bytes=None if group.stored_bytes is None else _part(group.stored_bytes, whole),
        parameters=int(group.parameters * whole),
        active=int(group.active * whole),
    )


def _part(size: int, share: Fraction) -> int:
    """A share of a size, rounded up."""
    return -(-size * share.numerator // share.denominator)


def _divided(shape: tuple[int, ...], part: Fraction) -> tuple[int, ...]:
    """The shape with one dimension divided: the first that divides evenly, else the first one, rounded up."""
    if part == 1 or not shape:
        return shape
    axis = next((index for index, size in enumerate(shape) if (size * part).denominator == 1), 0)
    return (*shape[:axis], _part(shape[axis], part), *shape[axis + 1 :])
