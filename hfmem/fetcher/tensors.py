"""The two roads to a tensor's bytes: what its file says, and shape × dtype."""

from __future__ import annotations

from functools import lru_cache

from hfmem.dtypes import stored_dtype
from hfmem.fetcher.values import TensorInfo

__all__ = ["size_mismatches", "table_bytes"]


@lru_cache(maxsize=4096)
def table_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Stored bytes of a tensor of a table.

    Raises:
        ValueError: a dtype that is not known.
    """
    found = stored_dtype(dtype)
    if found is None:
        raise ValueError(f"unknown dtype {dtype}")
    elements = 1
    for size in shape:
        elements *= size
    return found.nbytes(elements)


def size_mismatches(tensors: tuple[TensorInfo, ...]) -> tuple[TensorInfo, ...]:
    """Tensors whose stored bytes are not shape × dtype; those of an unknown dtype are not judged."""
    return tuple(tensor for tensor in tensors if _expected_bytes(tensor) not in (None, tensor.nbytes))


def _expected_bytes(tensor: TensorInfo) -> int | None:
    dtype = stored_dtype(tensor.dtype)
    return None if dtype is None else dtype.nbytes(tensor.elements)
