"""What each layer keeps, as llama.cpp allocates it: cells for every token of the context, filled or not.

Source: `llama_kv_cache`, `llama_kv_cache_iswa`, `llama_memory_recurrent` and `llama_model::create_memory`, 0.5.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from hfmem.engines.llamacpp.settings import CACHE_TYPES, LlamaSettings
from hfmem.mapper.caches import KV, Cache, Combined, Compressed, Indexed, Latent, State
from hfmem.mapper.values import Layer

__all__ = ["Kept", "Sides", "kept", "row_bytes", "sides"]

_FLOAT: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A part of what a layer keeps.

    Attributes:
        name: "KV cache", "states" or "indexer keys".
        nbytes: of the layer.
        how: the arithmetic.
    """

    name: str
    nbytes: int
    how: str


def row_bytes(elements: int, kind: str) -> int:
    """Bytes of one token's row in a type of the cache."""
    block, size = CACHE_TYPES[kind]
    return -(-elements // block) * size


def kept(layers: Sequence[Layer], kernel: int, settings: LlamaSettings) -> Iterator[tuple[Kept, ...]]:
    """What each layer keeps.

    Args:
        layers: those that are loaded.
        kernel: tokens of the window of their convolutions; 0 where they have none.
        settings: of the context.
    """
    run = _Run(
        settings=settings,
        kernel=kernel,
        widest=max((_value(layer.cache) for layer in layers), default=0),
        keys_only=any(isinstance(part, Compressed) for layer in layers for part in _all(layer.cache)),
    )
    for layer in layers:
        yield tuple(_parts(layer.cache, run))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What the steps of a layer read of its caches, in bytes of all tokens; 0 for what it has not.

    Attributes:
        keys, values: as they are kept.
        part: what attention reads as values where they are a part of the keys (MLA).
        index: keys of an indexer.
        state: recurrent, of all sequences.
    """

    keys: int = 0
    values: int = 0
    part: int = 0
    index: int = 0
    state: int = 0


def sides(layer: Layer, settings: LlamaSettings) -> Sides:
    """What the steps of a layer read of its caches."""
    return _sides(layer.cache, settings)


def _sides(cache: Cache, settings: LlamaSettings) -> Sides:
    if isinstance(cache, Combined):
        found = [_sides(each, settings) for each in cache.caches]
        return Sides(
            **{each.name: max((getattr(own, each.name) for own in found), default=0) for each in fields(Sides)}
        )
    if isinstance(cache, Indexed):
        rows = settings.streams * settings.cells
        return replace(_sides(cache.attention, settings), index=rows * row_bytes(cache.index_dim, settings.type_k))
    if isinstance(cache, Latent):
        rows = settings.streams * _cells(cache.window, settings)
        row = row_bytes(cache.rank + cache.rope_dim, settings.type_k)
        return Sides(keys=rows * row, part=(rows - 1) * row + row_bytes(cache.rank, settings.type_k))
    if isinstance(cache, State):
        return Sides(state=cache.recurrent * _FLOAT * settings.n_seq_max)
    if not isinstance(cache, KV):
        return Sides()
    rows = settings.streams * _cells(cache.window, settings)
    keys, values = cache.heads * cache.key_dim, cache.heads * cache.value_dim
    return Sides(keys=rows * row_bytes(keys, settings.type_k), values=rows * row_bytes(values, settings.type_v))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What is the same for all layers.

    Attributes:
        widest: elements of the widest layer's values.
        keys_only: whether the values are made of the keys (`dsv4_make_k_only`).
    """

    settings: LlamaSettings
    kernel: int
    widest: int
    keys_only: bool


def _all(cache: Cache) -> tuple[Cache, ...]:
    return cache.caches if isinstance(cache, Combined) else (cache,)


def _value(cache: Cache) -> int:
    """Elements of a layer's values of one token."""
    if isinstance(cache, KV):
        return cache.heads * cache.value_dim
    if isinstance(cache, Combined):
        return max((_value(each) for each in cache.caches), default=0)
    return _value(cache.attention) if isinstance(cache, Indexed) else 0


def _parts(cache: Cache, run: _Run) -> Iterator[Kept]:
    settings = run.settings
    if isinstance(cache, Combined):
        for each in cache.caches:
            yield from _parts(each, run)
    elif isinstance(cache, KV):
        yield _keys_and_values(cache, run)
    elif isinstance(cache, Latent):  # the values are made of the keys
        row = (cache.rank + cache.rope_dim, settings.type_k)
        yield _rows("KV cache", (row,), _cells(cache.window, settings), settings)
    elif isinstance(cache, Indexed):
        yield from _parts(cache.attention, run)
        yield _rows("indexer keys", ((cache.index_dim, settings.type_k),), settings.cells, settings)
    elif isinstance(cache, Compressed):
        cells = -(-settings.cells // cache.rate)
        yield _rows(cache.name, ((cache.dim, settings.type_k),), cells, settings)
    elif isinstance(cache, State):
        yield _state(cache, run)


def _keys_and_values(cache: KV, run: _Run) -> Kept:
    """Without flash attention values lie transposed, and all layers' are as wide as the widest's."""
    settings = run.settings
    keys = (cache.heads * cache.key_dim, settings.type_k)
    if run.keys_only:
        return _rows("KV cache", (keys,), _cells(cache.window, settings), settings)
    value = cache.heads * cache.value_dim if settings.flash else run.widest
    rows = (keys, (value, settings.type_v))
    return _rows("KV cache", rows, _cells(cache.window, settings), settings)


def _cells(window: int | None, settings: LlamaSettings) -> int:
    return settings.cells if window is None else settings.window_cells(window)


def _rows(name: str, rows: tuple[tuple[int, str], ...], cells: int, settings: LlamaSettings) -> Kept:
    many = f" × {settings.streams} sequences" if settings.streams > 1 else ""
    shown = " + ".join(f"{elements} in {kind}" for elements, kind in rows)
    size = sum(row_bytes(elements, kind) for elements, kind in rows)
    return Kept(name=name, nbytes=cells * settings.streams * size, how=f"{cells} cells{many} × ({shown})")


def _state(cache: State, run: _Run) -> Kept:
    """In float32, whatever the cache's type is; of a convolution's window all but the token that comes."""
    convolved = cache.conv * (run.kernel - 1) // run.kernel if run.kernel else cache.conv
    sequences = run.settings.n_seq_max
    return Kept(
        name="states",
        nbytes=(convolved + cache.recurrent) * _FLOAT * sequences,
        how=f"({convolved} + {cache.recurrent}) × {_FLOAT} B × {sequences} sequences",
    )
