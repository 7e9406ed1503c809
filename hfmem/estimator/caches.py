"""The KV cache: the sum over layers of what each keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hfmem.dtypes import Dtype, find_dtype
from hfmem.estimator.values import Scenario, Term
from hfmem.mapper.values import Architecture, Layer

__all__ = ["CacheSize", "cache_size"]

_SOURCE = "layers of the architecture; what transformers' cache objects hold after so many tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSize:
    """What the cache takes.

    Attributes:
        terms: one a kind of layer.
        per_token: marginal bytes of token seq+1 at batch 1.
        fixed: bytes at batch 1 that do not grow with the length.
    """

    terms: tuple[Term, ...]
    per_token: int
    fixed: int


def cache_size(architecture: Architecture, scenario: Scenario) -> CacheSize | str:
    """The cache for `batch` sequences of `seq` tokens, or why it is not known."""
    if architecture.layers is None:
        return architecture.unknown or "the layers of the architecture are not known"
    if not any(layer.cache.elements(1) for layer in architecture.layers):
        return CacheSize(terms=(), per_token=0, fixed=0)
    dtype = find_dtype(scenario.kv_dtype) if scenario.kv_dtype else None
    if dtype is None:
        return "the dtype of the cache is not known: give --dtype or --kv-dtype"
    kinds = Counter(architecture.layers)
    return CacheSize(
        terms=tuple(_term(layer, count, dtype, scenario) for layer, count in kinds.items() if layer.cache.elements(1)),
        per_token=_sum(kinds, lambda layer: _growth(layer, scenario.seq), dtype),
        fixed=_sum(kinds, lambda layer: _fixed(layer, scenario.seq), dtype),
    )


def _term(layer: Layer, count: int, dtype: Dtype, scenario: Scenario) -> Term:
    elements = count * layer.cache.elements(scenario.seq) * scenario.batch
    return Term(
        name=layer.kind.replace("_", " "),
        group="kv_cache",
        nbytes=dtype.nbytes(elements),
        how=f"{count} layers × {layer.cache.describe(scenario.seq)} × {dtype.bits / 8:g} B × batch {scenario.batch}",
        source=_SOURCE,
        certainty="derived",
    )


def _growth(layer: Layer, seq: int) -> int:
    return layer.cache.elements(seq + 1) - layer.cache.elements(seq)


def _fixed(layer: Layer, seq: int) -> int:
    return 0 if _growth(layer, seq) else layer.cache.elements(seq)


def _sum(kinds: Counter[Layer], elements: Callable[[Layer], int], dtype: Dtype) -> int:
    return sum(dtype.nbytes(count * elements(layer)) for layer, count in kinds.items())
