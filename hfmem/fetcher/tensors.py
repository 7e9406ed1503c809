"""Tensors in rows of many; their bytes as stated in the file, and as shape × dtype; and consistency of shards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import overload

from hfmem.dtypes import stored_dtype
from hfmem.fetcher.patterns import count_names, expand_name, first_name
from hfmem.fetcher.values import TensorInfo

__all__ = ["TensorRow", "Tensors", "each_once", "rows_of", "size_mismatches", "stored_bytes", "table_bytes"]


@dataclass(frozen=True, slots=True)
class TensorRow:
    """Tensors that differ in nothing but the numbers in their names.

    Attributes:
        pattern: their names, as `hfmem.fetcher.patterns` writes them.
        tensor: the first of them.
        count: how many they are.
    """

    pattern: str
    tensor: TensorInfo
    count: int

    def __iter__(self) -> Iterator[TensorInfo]:
        one = self.tensor
        if self.count == 1:  # whose name may hold braces of its own
            yield one
            return
        for name in expand_name(self.pattern):
            yield TensorInfo(name=name, dtype=one.dtype, shape=one.shape, nbytes=one.nbytes, file=one.file)


def row(pattern: str, dtype: str, shape: tuple[int, ...], file: str = "") -> TensorRow:
    """A row of a table.

    Raises:
        ValueError: a dtype that is not known, or no pattern.
    """
    count = count_names(pattern)
    name = first_name(pattern)
    first = TensorInfo(name=name, dtype=dtype, shape=shape, nbytes=table_bytes(dtype, shape), file=file)
    return TensorRow(pattern, first, count)


@dataclass(frozen=True, eq=False, repr=False)
class Tensors(Sequence[TensorInfo]):
    """Tensors of a table, which has them in rows: each is made when it is asked for. Large mixtures have some hundred
    thousand tensors, in some hundred rows.

    Attributes:
        rows: what the table has, in its order.
    """

    rows: tuple[TensorRow, ...]

    @cached_property
    def _count(self) -> int:
        return sum(row.count for row in self.rows)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[TensorInfo]:
        for row in self.rows:
            yield from row

    @overload
    def __getitem__(self, place: int) -> TensorInfo: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[TensorInfo, ...]: ...
    def __getitem__(self, place: int | slice) -> TensorInfo | tuple[TensorInfo, ...]:
        if isinstance(place, slice):
            return tuple(self)[place]
        at = range(len(self))[place]
        return next(islice(self, at, None))

    def __eq__(self, other: object) -> bool:
        """Equal to a tuple of the same tensors, too."""
        if isinstance(other, Tensors) and self.rows == other.rows:
            return True
        return isinstance(other, Tensors | tuple) and len(self) == len(other) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


def rows_of(tensors: Sequence[TensorInfo]) -> Iterable[TensorRow]:
    """The tensors as rows; each in one of its own where they come from files."""
    if isinstance(tensors, Tensors):
        return tensors.rows
    return (TensorRow(tensor.name, tensor, 1) for tensor in tensors)


def stored_bytes(tensors: Sequence[TensorInfo]) -> int:
    """Bytes of all of them."""
    return sum(row.tensor.nbytes * row.count for row in rows_of(tensors))


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


def size_mismatches(tensors: Iterable[TensorInfo]) -> tuple[TensorInfo, ...]:
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
