"""Autocast's copies of float32 weights in the compute dtype.

Of a trained matrix one copy is made per forward pass, and kept to its end: `cached_cast` keeps those of leaves that
require a gradient. Of a frozen one each use makes a copy, which the graph keeps for the gradient of the input.
"""

from __future__ import annotations

from math import ceil

from hfmem.estimator.split.share import place_of
from hfmem.estimator.training.gpu import Gpu
from hfmem.estimator.values import Term
from hfmem.estimator.weights.base import replaced

__all__ = ["casts_for_use", "largest_cast"]


def _casts(gpu: Gpu) -> bool:
    """Whether layers run on casts; FSDP gathers its units in the compute dtype instead."""
    precision = gpu.training.precision
    return precision.autocast and precision.weights == "float32" and not gpu.training.fsdp


def casts_for_use(gpu: Gpu, first: int, layers: int) -> list[Term]:
    """The copies of the matrices of so many layers from one on."""
    if not _casts(gpu):
        return []
    nf4 = replaced(gpu.model, gpu.training)
    groups = gpu.model.parameters.groups if gpu.model.parameters is not None else ()
    total = sum(
        2 * group.elements * float(gpu.share_of_layers(group.component, first, layers)) / gpu.plan.tp
        for group in groups
        if group.loaded
        and group.linear
        and id(group) not in nf4
        and place_of(group.component, gpu.split.rules) == "inside"
    )
    how = f"2 B per element of the matrices of {layers} layer{'s' if layers > 1 else ''}"
    return [_term(ceil(total), how, gpu)]


def largest_cast(gpu: Gpu) -> list[Term]:
    """The copy of the largest matrix."""
    if not _casts(gpu):
        return []
    nf4 = replaced(gpu.model, gpu.training)
    groups = gpu.model.parameters.groups if gpu.model.parameters is not None else ()
    elements = [
        group.elements // group.count
        for group in groups
        if group.loaded
        and group.linear
        and id(group) not in nf4
        and place_of(group.component, gpu.split.rules) == "inside"
    ]
    largest = max(elements, default=0) // gpu.plan.tp
    return [_term(2 * largest, f"2 B per element of the largest matrix, {largest:,}", gpu)]


def _term(nbytes: int, how: str, gpu: Gpu) -> Term:
    source = gpu.training.precision.source
    return Term(name="cast weights", group="temporary", nbytes=nbytes, how=how, source=source, certainty="derived")
