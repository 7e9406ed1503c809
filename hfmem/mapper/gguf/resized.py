"""The model of a GGUF file whose header was not read, from the header of another quantisation and the file size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Final, NamedTuple

from hfmem.dtypes import Dtype, stored_dtype
from hfmem.fetcher.quantisations import Choice
from hfmem.fetcher.values import FileInfo, TensorInfo
from hfmem.mapper.gguf.reader import table_of
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import ParameterTable
from hfmem.units import MIB

__all__ = ["resized"]


def resized(model: Model, choice: Choice, word: str) -> Model | None:
    """The model of another quantisation. Tensors that are not quantised keep their bytes. Matrices have the format in
    the file name, if that explains the file size; else their bytes are scaled. None if the file sizes are unknown or
    too small.

    Args:
        model: the model whose header was read.
        choice: the other quantisation.
        word: its name after the id.
    """
    checkpoint, table = model.checkpoint, model.parameters
    sizes = _sizes(checkpoint.tensors, checkpoint.weight_files, choice)
    if sizes is None or table is None or choice.missing:
        return None
    first, read = choice.file, checkpoint.weight_files[0].name
    keys = next((keys for keys in checkpoint.metadata.values() if "general.architecture" in keys), {})
    told = f"the size of {first} and the header of {read}"
    stored = stored_dtype(choice.quant)
    tensors = tuple(_made(checkpoint.tensors, sizes, first))
    return replace(
        model,
        checkpoint=replace(
            checkpoint,
            ref=replace(checkpoint.ref, quant=word),
            tensors=tensors,
            weight_files=choice.files,
            metadata={first: keys},
            missing=0,
        ),
        parameters=_table(tensors, model, sizes),
        certainty="derived",
        source=told,
        stored_dtype=stored.name if stored is not None and stored.is_wide_float else None,
        file_bytes=choice.size,
        resized=told,
    )


class _Sizes(NamedTuple):
    """The sizes of the matrices in a file.

    Attributes:
        of: bytes of a matrix, from its bytes in the file that was read and its elements.
        dtype: the format of all matrices; "" if unknown.
        kept: whether a tensor keeps its format.
    """

    of: Callable[[int, int], int]
    dtype: str
    kept: Callable[[TensorInfo], bool]


def _sizes(tensors: Sequence[TensorInfo], read: Sequence[FileInfo], choice: Choice) -> _Sizes | None:
    """The sizes of the matrices in a file. Its header is assumed to be as long as the one that was read: most of it is
    the vocabulary."""
    quantised = any(tensor.dtype != _FULL and len(tensor.shape) > 1 for tensor in tensors)

    def kept(tensor: TensorInfo) -> bool:
        return len(tensor.shape) < 2 or (quantised and tensor.dtype == _FULL)

    matrices = [tensor for tensor in tensors if not kept(tensor)]
    files = [file.size for file in read]
    if None in files or choice.size is None or not matrices:
        return None
    before = sum(tensor.nbytes for tensor in matrices)
    beside = sum(tensor.nbytes for tensor in tensors) - before
    left = choice.size - max(0, sum(size or 0 for size in files) - before - beside) - beside
    row = stored_dtype(choice.quant)
    if row is not None and _explains(row, matrices, left):
        return _Sizes(of=lambda _, elements: row.nbytes(elements), dtype=choice.quant, kept=kept)
    scale = Fraction(left, before) if before else Fraction(0)
    return _Sizes(of=lambda nbytes, _: round(nbytes * scale), dtype="", kept=kept) if left > 0 else None


_FULL: Final = "F32"
"""The format of tensors that are not quantised: vectors, and the matrices of routers and states."""

_UNTOLD: Final = 2000
"""File bytes per byte of tolerance, for a header of another length and the alignment of tensors."""


def _explains(row: Dtype, matrices: Sequence[TensorInfo], nbytes: int) -> bool:
    """Whether matrices in a format take `nbytes`."""
    if any(tensor.shape[-1] % row.block for tensor in matrices):
        return False
    taken = sum(row.nbytes(prod(tensor.shape)) for tensor in matrices)
    return abs(taken - nbytes) <= max(MIB, taken // _UNTOLD)


def _made(tensors: Sequence[TensorInfo], sizes: _Sizes, file: str) -> Iterator[TensorInfo]:
    known: dict[tuple[int, int], int] = {}  # many matrices have the same size
    for tensor in tensors:
        nbytes, dtype = tensor.nbytes, tensor.dtype
        if not sizes.kept(tensor):
            key = (nbytes, prod(tensor.shape))
            if key not in known:
                known[key] = sizes.of(*key)
            nbytes, dtype = known[key], sizes.dtype or dtype
        yield TensorInfo(name=tensor.name, dtype=dtype, shape=tensor.shape, nbytes=nbytes, file=file)


def _table(tensors: Sequence[TensorInfo], model: Model, sizes: _Sizes) -> ParameterTable:
    """The parameters; without formats, if these are unknown."""
    table = table_of(tensors, model.architecture)
    if sizes.dtype:
        return table
    return ParameterTable(groups=tuple(replace(group, dtype=None) for group in table.groups))
