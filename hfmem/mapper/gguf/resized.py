"""A model in a quantisation whose header was not read: the tensors of a file that was, with the sizes of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from hfmem.dtypes import stored_dtype
from hfmem.fetcher.quantisations import Choice
from hfmem.fetcher.values import FileInfo, TensorInfo
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import ParameterTable, TensorGroup

__all__ = ["resized"]


def resized(model: Model, choice: Choice, word: str) -> Model | None:
    """The model of one of several files, from another one's header. Vectors, which no quantisation touches, keep their
    bytes; matrices share what is left of the file without its header as they share the other's. None where the sizes of
    the files do not tell it.

    Args:
        model: the one whose header was read.
        choice: the one that is meant.
        word: what is asked for it.
    """
    checkpoint, table = model.checkpoint, model.parameters
    scale = _scale(checkpoint.tensors, checkpoint.weight_files, choice)
    if scale is None or table is None or choice.missing:
        return None
    first, read = choice.file, checkpoint.weight_files[0].name
    keys = next((keys for keys in checkpoint.metadata.values() if "general.architecture" in keys), {})
    told = f"the size of {first} and the header of {read}"
    stored = stored_dtype(choice.quant)
    return replace(
        model,
        checkpoint=replace(
            checkpoint,
            ref=replace(checkpoint.ref, quant=word),
            tensors=tuple(_tensors(checkpoint.tensors, scale, first)),
            weight_files=choice.files,
            metadata={first: keys},
            missing=0,
        ),
        parameters=ParameterTable(groups=tuple(_group(group, scale) for group in table.groups)),
        certainty="derived",
        source=told,
        stored_dtype=stored.name if stored is not None and stored.is_wide_float else None,
        file_bytes=choice.size,
        resized=told,
    )


def _scale(tensors: Sequence[TensorInfo], read: Sequence[FileInfo], choice: Choice) -> Fraction | None:
    """How much larger the matrices of a file are than those that were read. Headers are taken to be as long as the one
    that was read: the vocabulary makes them up, and is the same."""
    data = sum(tensor.nbytes for tensor in tensors)
    vectors = sum(tensor.nbytes for tensor in tensors if _is_vector(tensor.shape))
    sizes = [file.size for file in read]
    if None in sizes or choice.size is None or data == vectors:
        return None
    headers = max(0, sum(size or 0 for size in sizes) - data)
    left = choice.size - headers - vectors
    return Fraction(left, data - vectors) if left > 0 else None


def _is_vector(shape: tuple[int, ...]) -> bool:
    return len(shape) < 2


def _tensors(tensors: Iterable[TensorInfo], scale: Fraction, file: str) -> Iterator[TensorInfo]:
    sizes: dict[int, int] = {}  # of matrices: many have the same
    for tensor in tensors:
        nbytes = tensor.nbytes
        if not _is_vector(tensor.shape):
            if nbytes not in sizes:
                sizes[nbytes] = round(nbytes * scale)
            nbytes = sizes[nbytes]
        yield TensorInfo(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, nbytes=nbytes, file=file)


def _group(group: TensorGroup, scale: Fraction) -> TensorGroup:
    """The group without the format that the other file has."""
    nbytes = group.stored_bytes
    if nbytes is not None and not _is_vector(group.shape):
        nbytes = round(nbytes * scale)
    return replace(group, dtype=None, stored_bytes=nbytes)
