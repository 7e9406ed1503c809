"""The KV cache: the sum over layers of their caches and states, each part in its own dtype."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from hfmem.dtypes import Dtype, find_dtype
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.mapper.caches import COMPUTE, KV, KV_DTYPE, Cache, Combined, Latent, Part, Seen
from hfmem.mapper.values import Architecture, Layer
from hfmem.unknown import Unknown

__all__ = ["CacheSize", "cache_size", "layer_bytes", "prompt_bytes"]

_SOURCE = "layers of the architecture; contents of transformers' cache objects after this number of tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSize:
    """Size of the cache.

    Attributes:
        terms: one per kind of layer and part.
        per_token: bytes that token seq+1 adds at batch 1.
        fixed: bytes at batch 1 that do not grow with the length.
        host: what the host's memory holds of it.
    """

    terms: tuple[Term, ...]
    per_token: int
    fixed: int
    host: tuple[Term, ...] = ()


def cache_size(architecture: Architecture, scenario: Scenario) -> CacheSize | Unknown:
    """The cache for `batch` sequences of `seq` tokens, or why it is unknown."""
    if architecture.layers is None:
        return Unknown(architecture.unknown or "the layers of the architecture are not known")
    # the growth per token is the difference of two lengths, as windows and compressed caches are not linear
    now, later = _seen(scenario, scenario.seq), _seen(scenario, scenario.seq + 1)
    terms: list[Term] = []
    per_token, fixed = 0, 0
    for layer, count in Counter(architecture.layers).items():
        dtypes = [_dtype(part, scenario) for part in layer.cache.parts(now)]
        if None in dtypes:
            return Unknown("the dtype of the cache is not known: use --dtype or --kv-dtype")
        terms += [
            _term(layer, part, count, dtype, scenario.batch)
            for part, dtype in zip(layer.cache.parts(now), dtypes, strict=True)
            if dtype is not None
        ]
        sizes, grown = _sizes(layer, now, scenario), _sizes(layer, later, scenario)
        # a full window adds nothing, and a compressed cache grows only every n-th token
        per_token += count * (sum(grown.values()) - sum(sizes.values()))
        fixed += count * sum(nbytes for name, nbytes in sizes.items() if grown.get(name) == nbytes)
    return CacheSize(terms=tuple(terms), per_token=per_token, fixed=fixed)


def layer_bytes(layer: Layer, scenario: Scenario) -> int:
    """Bytes of one layer's cache for the whole batch; parts with an unknown dtype count as 0."""
    return scenario.batch * sum(_sizes(layer, _seen(scenario, scenario.seq), scenario).values())


def prompt_bytes(layer: Layer, scenario: Scenario) -> int:
    """Bytes of one layer's cache right after a prompt of `seq` tokens. In `transformers` a sliding window is a view of
    the keys and values of the whole prompt, which stay until the next token (`DynamicSlidingWindowLayer.update`)."""
    return layer_bytes(replace(layer, cache=_whole(layer.cache)), scenario)


def _whole(cache: Cache) -> Cache:
    """The cache without its sliding window."""
    if isinstance(cache, Combined):
        return replace(cache, caches=tuple(_whole(part) for part in cache.caches))
    return replace(cache, window=None) if isinstance(cache, KV | Latent) else cache


def _sizes(layer: Layer, seen: Seen, scenario: Scenario) -> dict[str, int]:
    """Bytes of each part of one layer's cache for one sequence, by name."""
    sizes: dict[str, int] = {}
    for part in layer.cache.parts(seen):
        dtype = _dtype(part, scenario)
        sizes[part.name] = sizes.get(part.name, 0) + (dtype.nbytes(part.elements) if dtype else 0)
    return sizes


def _seen(scenario: Scenario, tokens: int) -> Seen:
    return Seen(tokens=tokens, source=scenario.source_seq or 0)


def _dtype(part: Part, scenario: Scenario) -> Dtype | None:
    chosen = {KV_DTYPE: scenario.kv_dtype, COMPUTE: scenario.compute_dtype}.get(part.dtype, part.dtype)
    return find_dtype(chosen) if chosen else None


def _term(layer: Layer, part: Part, count: int, dtype: Dtype, batch: int) -> Term:
    kind = layer.kind.replace("_", " ")
    return Term(
        name=kind if part.name in ("", kind) else f"{kind}: {part.name}",
        group="kv_cache",
        nbytes=dtype.nbytes(count * part.elements * batch),
        how=f"{count} layers × {part.how} × {dtype.mean_bytes:g} B × batch {batch}",
        source=_SOURCE,
        certainty="derived",
    )
