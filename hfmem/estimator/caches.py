"""The KV cache: the sum over layers of what each keeps, every part in its own dtype."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hfmem.dtypes import Dtype, find_dtype
from hfmem.estimator.values import Scenario, Term
from hfmem.mapper.caches import COMPUTE, KV_DTYPE, Part, Seen
from hfmem.mapper.values import Architecture, Layer

__all__ = ["CacheSize", "cache_size"]

_SOURCE = "layers of the architecture; what transformers' cache objects hold after so many tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSize:
    """What the cache takes.

    Attributes:
        terms: one a kind of layer and part.
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
    now, later = _seen(scenario, scenario.seq), _seen(scenario, scenario.seq + 1)
    terms, per_token, fixed = [], 0, 0
    for layer, count in Counter(architecture.layers).items():
        for part, next_part in zip(layer.cache.parts(now), layer.cache.parts(later), strict=True):
            dtype = _dtype(part, scenario)
            if dtype is None:
                return "the dtype of the cache is not known: give --dtype or --kv-dtype"
            terms.append(_term(layer, part, count, dtype, scenario.batch))
            growth = next_part.elements - part.elements
            per_token += dtype.nbytes(count * growth)
            fixed += 0 if growth else dtype.nbytes(count * part.elements)
    return CacheSize(terms=tuple(terms), per_token=per_token, fixed=fixed)


def _seen(scenario: Scenario, tokens: int) -> Seen:
    return Seen(tokens=tokens, source=scenario.source_seq or 0)


def _dtype(part: Part, scenario: Scenario) -> Dtype | None:
    chosen = {KV_DTYPE: scenario.kv_dtype, COMPUTE: scenario.compute_dtype}.get(part.dtype, part.dtype)
    return find_dtype(chosen) if chosen else None


def _term(layer: Layer, part: Part, count: int, dtype: Dtype, batch: int) -> Term:
    kind = layer.kind.replace("_", " ")
    return Term(
        name=f"{kind}: {part.name}" if part.name else kind,
        group="kv_cache",
        nbytes=dtype.nbytes(count * part.elements * batch),
        how=f"{count} layers × {part.how} × {dtype.bits / 8:g} B × batch {batch}",
        source=_SOURCE,
        certainty="derived",
    )
