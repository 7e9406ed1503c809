"""GGUF files of real models as checkpoints, from `fixtures/gguf/models.jsonl`, and small ones made of keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hfmem.fetcher.patterns import expand
from hfmem.fetcher.tensors import table_bytes
from hfmem.fetcher.values import Checkpoint, FileInfo, ModelRef, TensorInfo

__all__ = ["MODELS", "checkpoint", "model"]

_LINES = (Path(__file__).parents[2] / "fixtures/gguf/models.jsonl").read_text(encoding="utf-8").splitlines()[1:]
MODELS: dict[str, dict[str, Any]] = {row["file"]: row for row in map(json.loads, _LINES)}
"""Each file with its key-values, tensors, and what llama.cpp says that its tensors take when they are loaded."""


def model(file: str) -> Checkpoint:
    """A file of the fixture."""
    row = MODELS[file]
    return checkpoint(row["kv"], ((name, dtype, tuple(shape)) for name, dtype, shape in row["tensors"]), file=file)


def checkpoint(
    keys: Mapping[str, Any], rows: Iterable[tuple[str, str, tuple[int, ...]]] = (), *, file: str = "m.gguf"
) -> Checkpoint:
    """A checkpoint of one GGUF file."""
    tensors = tuple(
        TensorInfo(name=name, dtype=dtype, shape=shape, nbytes=table_bytes(dtype, shape), file=file)
        for name, dtype, shape in expand(rows)
    )
    info = FileInfo(name=file, size=None)
    return Checkpoint(
        ref=ModelRef(model_id=file),
        commit=None,
        source="local",
        provenance="",
        config=None,
        tensors=tensors,
        files=(info,),
        weight_files=(info,),
        metadata={file: keys},
    )
