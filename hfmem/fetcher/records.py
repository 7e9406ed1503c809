"""Checkpoints as JSON records, the form that the disk cache keeps."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby
from typing import Any, Final

from hfmem.dtypes import find_dtype
from hfmem.fetcher.patterns import compress, expand
from hfmem.fetcher.values import Checkpoint, FileInfo, ModelRef, TensorInfo

__all__ = ["SCHEMA", "from_record", "table_bytes", "to_record"]

SCHEMA: Final = 2


def to_record(checkpoint: Checkpoint) -> dict[str, Any]:
    """A record of what the Hub said of one commit.

    Raises:
        ValueError: a tensor cannot be written compactly (its bytes are not shape × dtype, or its name holds a brace).
    """
    return {
        "schema": SCHEMA,
        "commit": checkpoint.commit,
        "provenance": checkpoint.provenance,
        "config": checkpoint.config,
        "quantisation": checkpoint.quantisation,
        "tensors": _by_file(checkpoint.tensors),
        "files": [[file.name, file.size] for file in checkpoint.files],
        "weight_files": [file.name for file in checkpoint.weight_files],
        "totals": checkpoint.totals,
        "notes": list(checkpoint.notes),
    }


def from_record(record: dict[str, Any], ref: ModelRef) -> Checkpoint:
    """The checkpoint of a record.

    Raises:
        KeyError, TypeError, ValueError: not a record of this version.
    """
    if record["schema"] != SCHEMA:
        raise ValueError(f"schema {record['schema']}")
    files = tuple(FileInfo(name=name, size=size) for name, size in record["files"])
    chosen = set(record["weight_files"])
    return Checkpoint(
        ref=ref,
        commit=record["commit"],
        source="cache",
        provenance=record["provenance"],
        config=record["config"],
        quantisation=record["quantisation"],
        tensors=tuple(_tensors(record["tensors"])),
        files=files,
        weight_files=tuple(file for file in files if file.name in chosen),
        totals=record["totals"],
        notes=tuple(record["notes"]),
    )


@lru_cache(maxsize=4096)
def table_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Stored bytes of a tensor of a table.

    Raises:
        ValueError: a dtype that is not known.
    """
    found = find_dtype(dtype)
    if found is None:
        raise ValueError(f"unknown dtype {dtype}")
    elements = 1
    for size in shape:
        elements *= size
    return found.nbytes(elements)


def _by_file(tensors: tuple[TensorInfo, ...]) -> list[list[Any]]:
    for tensor in tensors:
        if table_bytes(tensor.dtype, tensor.shape) != tensor.nbytes:
            raise ValueError(f"{tensor.name} is not shape × dtype bytes long")
    return [
        [file, compress((tensor.name, tensor.dtype, tensor.shape) for tensor in group)]
        for file, group in groupby(tensors, key=lambda tensor: tensor.file)
    ]


def _tensors(by_file: list[list[Any]]) -> Iterable[TensorInfo]:
    for file, rows in by_file:
        for pattern, dtype, sizes in rows:
            shape = tuple(sizes)
            nbytes = table_bytes(dtype, shape)
            for name, _, _ in expand([(pattern, dtype, shape)]):
                yield TensorInfo(name=name, dtype=dtype, shape=shape, nbytes=nbytes, file=file)
