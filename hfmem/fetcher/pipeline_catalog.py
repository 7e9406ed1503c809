"""The bundled catalog of pipelines: `data/pipelines.jsonl`, which `python -m hfmem.probe.pipelines` writes.

Pipelines share components, such as T5. Only the lines of the requested pipeline are parsed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from hfmem.data import text as data_text
from hfmem.fetcher.tensors import TensorRow, Tensors, row
from hfmem.fetcher.values import Checkpoint, ModelRef

__all__ = ["find", "model_ids", "of_class"]


def find(ref: ModelRef) -> Checkpoint | None:
    """The checkpoint of a pipeline, without files; None if the catalog has none. Ids are case-insensitive."""
    line = _lines().get(ref.model_id.lower())
    return None if line is None else _checkpoint(ref, json.loads(line))


def of_class(class_name: str) -> str:
    """The first model of a pipeline's class; "" for none."""
    word = json.dumps(class_name)
    return next((json.loads(line)["model"] for line in _lines().values() if f'"class":{word}' in line), "")


@cache
def model_ids(*, aliases: bool = True) -> tuple[str, ...]:
    """All pipelines in the catalog, in order, with their other names if those are asked for."""
    found = (json.loads(line) for line in dict.fromkeys(_lines().values()))
    return tuple(name for one in found for name in (one["model"], *(one.get("aliases", ()) if aliases else ())))


@cache
def _text() -> list[str]:
    return data_text("pipelines.jsonl").splitlines()


@cache
def _lines() -> Mapping[str, str]:
    """The line of each pipeline, by its names in lower case."""
    found: dict[str, str] = {}
    for line in reversed(_text()):
        if not line.startswith('{"model":'):
            break
        entry = json.loads(line)
        for name in (entry["model"], *entry.get("aliases", ())):
            found[name.lower()] = line
    return dict(reversed(found.items()))


def _component(key: str) -> dict[str, Any]:
    start = f'{{"component":{json.dumps(key)},'
    line = next(line for line in _text() if line.startswith(start))
    found: dict[str, Any] = json.loads(line)
    return found


def _checkpoint(ref: ModelRef, entry: Mapping[str, Any]) -> Checkpoint:
    index: dict[str, Any] = {"_class_name": entry["class"], **entry["settings"]}
    configs: dict[str, Any] = {}
    rows: list[TensorRow] = []
    sources: list[str] = []
    for name, (key, dtype) in entry["components"].items():
        component = _component(key)
        index[name] = [component["library"], component["class"]]
        configs[name] = component["config"]
        rows += _rows(name, dtype, component["tensors"])
        sources.append(f"{name}: {component['source']}")
    made = json.loads(_text()[0])["source"]
    return Checkpoint(
        ref=ref,
        commit=None,
        source="catalog",
        provenance=f"configs: {'; '.join(sources)}; tensors: the classes of {made}",
        config=None,
        pipeline=index,
        configs=configs,
        tensors=Tensors(tuple(rows)),
        names="class",
    )


def _rows(name: str, dtype: str, tensors: list[Any]) -> Iterator[TensorRow]:
    """The tensors of a component, in the folder of its name."""
    for pattern, shape in tensors:
        yield row(pattern, dtype, tuple(shape), f"{name}/")
