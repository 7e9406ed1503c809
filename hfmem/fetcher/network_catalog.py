"""The bundled catalog of timm's networks for images: `data/timm_models.jsonl`.

`python -m hfmem.probe.timm.catalog` writes it. Only the line of the requested model is parsed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

from hfmem.data import text as data_text
from hfmem.fetcher.tensors import Tensors, row
from hfmem.fetcher.values import Checkpoint, ModelRef

__all__ = ["find", "model_ids"]


def find(ref: ModelRef) -> Checkpoint | None:
    """The checkpoint of a network, without files; None if the catalog has none. Ids are case-insensitive."""
    line = _lines().get(ref.model_id.lower())
    if line is None:
        return None
    entry = json.loads(line)
    made = json.loads(_text()[0])["source"]
    return Checkpoint(
        ref=ref,
        commit=None,
        source="catalog",
        provenance=f"config: timm's own; tensors: its class on the meta device, in float32 ({made})",
        config=entry["config"],
        tensors=Tensors(tuple(row(pattern, dtype, tuple(shape)) for pattern, dtype, shape in entry["tensors"])),
        names="class",
    )


@cache
def model_ids() -> tuple[str, ...]:
    """All networks in the catalog, in order."""
    return tuple(_name(line) for line in _text()[1:])


@cache
def _text() -> list[str]:
    return data_text("timm_models.jsonl").splitlines()


@cache
def _lines() -> Mapping[str, str]:
    """The line of each network, by its name in lower case."""
    return {_name(line).lower(): line for line in _text()[1:]}


def _name(line: str) -> str:
    """The name that a line begins with."""
    return line.split('"', 4)[3]
