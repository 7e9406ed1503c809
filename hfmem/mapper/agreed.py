"""Weights of which no header was read: a reader derives them from config.json, and the Hub's public totals by dtype are
the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hfmem.dtypes import stored_dtype
from hfmem.fetcher.values import Checkpoint
from hfmem.mapper.architecture import blueprint_of
from hfmem.mapper.packing import declared_quantisation
from hfmem.mapper.values import ParameterTable
from hfmem.units import MIB

__all__ = ["agrees", "as_published"]

_HEADER: Final = MIB  # bytes of a file's header, and of a hundredth of its tensors: more is no header


def agrees(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint without its headers is known as well as with them: config.json states no quantisation, its
    class has a reader, all tensors are of one floating-point dtype of at least 16 bits, and there are as many elements
    as the reader derives, and as many bytes as the files have, but for their headers."""
    config, totals = checkpoint.config, checkpoint.totals
    if config is None or checkpoint.quantisation is not None or declared_quantisation(config) is not None:
        return False
    described = blueprint_of(checkpoint).parameters
    if described is None or not totals or len(totals) != 1:
        return False
    ((name, count),) = totals.items()
    dtype = stored_dtype(name)
    if dtype is None or not dtype.is_wide_float or any(group.dtype is not None for group in described.groups):
        return False
    elements = sum(group.elements for group in described.groups)
    return elements == count and _holds(checkpoint, dtype.nbytes(count))


def _holds(checkpoint: Checkpoint, nbytes: int) -> bool:
    """Whether the weight files have as many bytes, and those of their headers."""
    sizes = [file.size for file in checkpoint.weight_files]
    if not sizes or None in sizes:
        return False
    more = sum(size for size in sizes if size is not None) - nbytes
    return 8 * len(sizes) < more <= _HEADER * len(sizes) + nbytes // 100


def as_published(described: ParameterTable, totals: Mapping[str, int]) -> ParameterTable:
    """The weights that a config describes in the one dtype of the Hub's public totals."""
    (name,) = totals
    dtype = stored_dtype(name)
    groups = (
        replace(group, dtype=name, stored_bytes=dtype.nbytes(group.elements) if dtype is not None else None)
        for group in described.groups
    )
    return ParameterTable(groups=tuple(groups))
