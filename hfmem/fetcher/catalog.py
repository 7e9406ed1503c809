"""The bundled catalog: what well-known public models hold, for when there is no network or no access.

`data/catalog.jsonl` has one model a line; `python -m hfmem.probe.catalog` makes it. Only the asked line is parsed.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from hfmem.fetcher.patterns import expand
from hfmem.fetcher.tensors import table_bytes
from hfmem.fetcher.values import Checkpoint, ModelRef, TensorInfo

__all__ = ["find", "model_ids"]


def find(ref: ModelRef) -> Checkpoint | None:
    """The catalog's entry of a model; None where it has none. The letter case of the id does not matter, as on the
    Hub."""
    entry = _entry(ref.model_id)
    if entry is None:
        return None
    published = entry.get("published") or {}
    return Checkpoint(
        ref=ref,
        commit=entry.get("commit"),
        source="catalog",
        provenance=entry["source"],
        config=entry["config"],
        tensors=tuple(
            TensorInfo(name=name, dtype=dtype, shape=shape, nbytes=table_bytes(dtype, shape), file="")
            for name, dtype, shape in expand(
                (pattern, dtype, tuple(shape)) for pattern, dtype, shape in entry["tensors"]
            )
        ),
        names=entry["names"],
        totals=published.get("by_dtype"),
    )


def model_ids() -> tuple[str, ...]:
    """Every model of the catalog, in order."""
    return tuple(json.loads(line)["model"] for line in _text().splitlines()[1:])


@cache
def _text() -> str:
    return files("hfmem.data").joinpath("catalog.jsonl").read_text(encoding="utf-8")


def _entry(model_id: str) -> dict[str, Any] | None:
    text = _text()
    folded = text.lower()
    start = folded.find(f'\n{{"model":{json.dumps(model_id.lower())}')
    if start < 0:
        start = _alias(folded, model_id.lower())
    if start < 0:
        return None
    entry: dict[str, Any] = json.loads(text[start + 1 : text.index("\n", start + 1)])
    return entry


def _alias(folded: str, model_id: str) -> int:
    """Where the line begins that has the id among its `aliases`; -1 where none has."""
    position = folded.find(json.dumps(model_id))
    while position >= 0:
        line = folded.rfind("\n", 0, position)
        if line >= 0 and model_id in json.loads(folded[line + 1 : folded.index("\n", position)]).get("aliases", ()):
            return line
        position = folded.find(json.dumps(model_id), position + 1)
    return -1
