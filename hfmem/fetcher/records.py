"""Checkpoints as JSON records, as stored in the disk cache."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final

from hfmem.dtypes import stored_dtype
from hfmem.fetcher.patterns import compress
from hfmem.fetcher.pipelines import PIPELINE
from hfmem.fetcher.tensors import TensorRow, Tensors, row, table_bytes
from hfmem.fetcher.values import Checkpoint, FileInfo, ModelRef, TensorInfo

__all__ = ["SCHEMA", "from_record", "to_record"]

SCHEMA: Final = 9

_MOST_TENSORS: Final = 5_000_000


def to_record(checkpoint: Checkpoint) -> dict[str, Any]:
    """The record of a checkpoint from the Hub."""
    return {
        "schema": SCHEMA,
        "commit": checkpoint.commit,
        "provenance": checkpoint.provenance,
        "config": checkpoint.config,
        "quantisation": checkpoint.quantisation,
        "adapter": checkpoint.adapter,
        "card_base": checkpoint.card_base,
        "processing": checkpoint.processing,
        "pipeline": checkpoint.pipeline,
        "configs": checkpoint.configs,
        "tensors": _by_file(checkpoint.tensors),
        "files": [[file.name, file.size] for file in checkpoint.files],
        "weight_files": [file.name for file in checkpoint.weight_files],
        "metadata": checkpoint.metadata,
        "faults": list(checkpoint.faults),
        "doubts": list(checkpoint.doubts),
        "missing": checkpoint.missing,
        "unread": checkpoint.unread,
        "totals": checkpoint.totals,
        "notes": list(checkpoint.notes),
        **({"agreed": True} if checkpoint.agreed else {}),
    }


def from_record(record: dict[str, Any], ref: ModelRef) -> Checkpoint:
    """The checkpoint of a record.

    Raises:
        KeyError, TypeError, ValueError: not a record of this version.
    """
    if record["schema"] != SCHEMA:
        raise ValueError(f"schema {record['schema']}")
    config, quantisation, metadata = record["config"], record["quantisation"], record["metadata"]
    adapter = record.get("adapter")  # absent in older records
    if not all(isinstance(each, dict | None) for each in (config, quantisation, adapter)):
        raise TypeError("no configuration")
    pipeline, configs = _pipeline(record)
    _check_settings(metadata, record["processing"])
    files = tuple(FileInfo(name=str(name), size=size) for name, size in record["files"])
    chosen = set(record["weight_files"])
    return Checkpoint(
        ref=ref,
        commit=record["commit"],
        source="cache",
        provenance=record["provenance"],
        config=config,
        quantisation=quantisation,
        adapter=adapter,
        card_base=str(record.get("card_base", "")),
        processing=record["processing"],
        pipeline=pipeline,
        configs=configs,
        tensors=Tensors(tuple(_rows(record["tensors"]))),
        files=files,
        weight_files=tuple(file for file in files if file.name in chosen),
        metadata=metadata,
        faults=tuple(map(str, record["faults"])),
        doubts=tuple(map(str, record["doubts"])),
        missing=record["missing"],
        unread=_unread(record),
        totals=record["totals"],
        notes=tuple(record["notes"]),
        agreed=record.get("agreed") is True,
    )


def _unread(record: dict[str, Any]) -> dict[str, str]:
    """Why files could not be read."""
    unread = record["unread"]
    if not isinstance(unread, dict) or not all(isinstance(reason, str) for reason in unread.values()):
        raise TypeError("no reasons")
    return unread


def _pipeline(record: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """model_index.json and the configs of the components.

    Raises:
        TypeError, ValueError: they are no such objects, or an older record of a pipeline lacks them.
    """
    pipeline, configs = record.get("pipeline"), record.get("configs", {})
    if not isinstance(pipeline, dict | None) or not all(isinstance(each, dict) for each in configs.values()):
        raise TypeError("no pipeline")
    if "pipeline" not in record and any(name == PIPELINE for name, _ in record["files"]):
        raise ValueError("an older record of a pipeline, without its components")
    return pipeline, configs


def _check_settings(*records: Any) -> None:
    """Of weight files, and of the processor's files, by name."""
    for each in records:
        if not isinstance(each, dict) or not all(isinstance(values, dict) for values in each.values()):
            raise TypeError("no metadata, or no settings of a processor")


def _by_file(tensors: Iterable[TensorInfo]) -> list[list[Any]]:
    """For each file, the patterns of its tensors, and a list of the tensors that cannot be expressed as patterns."""
    found = []
    for file, group in groupby(tensors, key=lambda tensor: tensor.file):
        regular: list[TensorInfo] = []
        odd: list[TensorInfo] = []
        for tensor in group:
            (regular if _is_regular(tensor) else odd).append(tensor)
        rows = compress((tensor.name, tensor.dtype, tensor.shape) for tensor in regular)
        found.append([file, rows, [[tensor.name, tensor.dtype, tensor.shape, tensor.nbytes] for tensor in odd]])
    return found


def _is_regular(tensor: TensorInfo) -> bool:
    """Whether name, dtype and shape suffice: a known dtype, matching bytes, no brace in the name."""
    if "{" in tensor.name or "}" in tensor.name or stored_dtype(tensor.dtype) is None:
        return False
    return table_bytes(tensor.dtype, tensor.shape) == tensor.nbytes


def _rows(by_file: list[list[Any]]) -> Iterable[TensorRow]:
    left = _MOST_TENSORS
    for file, rows, odd in by_file:
        for pattern, dtype, sizes in rows:
            several = row(pattern, dtype, _shape(sizes), file)
            left -= several.count
            if left < 0:
                raise ValueError("more tensors than any model has")
            yield several
        for name, dtype, sizes, nbytes in odd:
            one = TensorInfo(name=str(name), dtype=str(dtype), shape=_shape(sizes), nbytes=int(nbytes), file=file)
            yield TensorRow(one.name, one, 1)


def _shape(sizes: list[Any]) -> tuple[int, ...]:
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError(f"no shape: {sizes}")
    return tuple(sizes)
