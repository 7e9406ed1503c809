"""A tensor's bytes as stated in its file, and as shape × dtype; and consistency of shards."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache

from hfmem.dtypes import stored_dtype
from hfmem.fetcher.values import TensorInfo

__all__ = ["each_once", "size_mismatches", "table_bytes"]


@lru_cache(maxsize=4096)
def table_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Stored bytes of a tensor by shape × dtype.

    Raises:
        ValueError: the dtype is unknown.
    """
    found = stored_dtype(dtype)
    if found is None:
        raise ValueError(f"unknown dtype {dtype}")
    elements = 1
    for size in shape:
        elements *= size
    return found.nbytes(elements)


def size_mismatches(tensors: tuple[TensorInfo, ...]) -> tuple[TensorInfo, ...]:
    """Tensors whose stored bytes differ from shape × dtype; those of an unknown dtype are not checked."""
    return tuple(tensor for tensor in tensors if _expected_bytes(tensor) not in (None, tensor.nbytes))


def _expected_bytes(tensor: TensorInfo) -> int | None:
    dtype = stored_dtype(tensor.dtype)
    return None if dtype is None else dtype.nbytes(tensor.elements)


def each_once(
    tensors: Iterable[TensorInfo], indexed: Collection[str] = ()
) -> tuple[tuple[TensorInfo, ...], tuple[str, ...]]:
    """The tensors of a model's shards with unique names, and clauses on contradictions between shards and index.

    Args:
        tensors: the tensors of all shards, in order.
        indexed: the tensor names that the index assigns to these shards.
    """
    found: dict[str, TensorInfo] = {}
    again: list[TensorInfo] = []
    for tensor in tensors:
        if found.setdefault(tensor.name, tensor) is not tensor:
            again.append(tensor)
    doubts = []
    if again:
        first, second = found[again[0].name].file, again[0].file
        count = "1 tensor is" if len(again) == 1 else f"{len(again):,} tensors are"
        doubts.append(f"{count} stored twice ('{again[0].name}' in {first} and {second}) and counted once")
    lacking = sorted(set(indexed) - found.keys())
    if lacking:
        count = "1 tensor" if len(lacking) == 1 else f"{len(lacking):,} tensors"
        doubts.append(f"the index names {count} that no shard contains ('{lacking[0]}')")
    return tuple(found.values()), tuple(doubts)
