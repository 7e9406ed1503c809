"""From a config to a catalog entry, combining class or explicit table, repository exceptions and quantization."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hfmem.fetcher.catalog import Provenance
from hfmem.fetcher.values import Names
from hfmem.probe.catalog import classes, explicit, families, prediction, quantized, repositories
from hfmem.probe.catalog.entries import Entry
from hfmem.probe.catalog.facts import facts, read_config
from hfmem.probe.catalog.tables import Table, rows, table

__all__ = ["LeftOutError", "from_folder", "regenerate"]


class LeftOutError(Exception):
    """The tensors of a repository cannot be derived from its config; the message gives the reason."""


_INDEX: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def regenerate(entry: Entry) -> Entry:
    """The entry with a new table from its own config.

    Raises:
        ValueError: the new names differ from those recorded from an index.
    """
    contents = make_table(entry.model, entry.config)
    if entry.names == "recorded" and contents.keys() != table(entry.tensors).keys():
        raise ValueError(f"{entry.model}: the names differ from the recorded ones")
    return replace(entry, tensors=rows(contents))


def make_table(model: str, config: dict[str, Any]) -> Table:
    """The tensors in the model's files."""
    written = explicit.EXPLICIT.get(config["model_type"])
    contents = written(config) if written else families.adapt(classes.class_table(config), config)
    contents = prediction.with_prediction_layers(contents, config)
    contents = repositories.adapt(model, contents, config)
    return repositories.finish(model, quantized.stored(contents, config))


def from_folder(folder: Path, sources: dict[str, dict[str, Any]]) -> Entry:
    """An entry from a repository's folder (`<org>--<name>`) and the provenance of its config.

    Raises:
        LeftOutError: the table cannot be derived from the config.
        ValueError: the index in the folder lists other names.
    """
    model = folder.name.replace("--", "/", 1)
    if model in repositories.LEFT_OUT:
        raise LeftOutError(repositories.LEFT_OUT[model])
    config = facts(read_config(folder))
    if not config.get("model_type") or not config.get("architectures"):
        raise LeftOutError("the config has no model_type or architectures")
    contents = make_table(model, config)
    names: Names = repositories.names(model, config)
    recorded = _recorded(folder)
    if recorded is not None:
        if recorded != contents.keys():
            raise ValueError(f"{model}: {sorted(recorded ^ contents.keys())[:6]}")
        names = "recorded"
    return Entry(
        model=model,
        aliases=repositories.ALIASES.get(model, ()),
        commit=repositories.COMMITS.get(model),
        names=names,
        source=_source(sources[f"{folder.name}/config.json"], config),
        config=config,
        tensors=rows(contents),
    )


def _recorded(folder: Path) -> set[str] | None:
    """The names in the repository's index; None without one."""
    for name in _INDEX:
        if (folder / name).exists():
            # An index may contain two JSON documents in a row, of which loaders read the first.
            document, _ = json.JSONDecoder().raw_decode((folder / name).read_text(encoding="utf-8"))
            return set(document["weight_map"])
    return None


def _source(row: dict[str, Any], config: dict[str, Any]) -> Provenance:
    """The source of the config, and how the table was made."""
    inferred = re.fullmatch(r"inferred \(([^()]*)\)(?:; (.*))?", str(row.get("identity", "")))
    return Provenance(
        path=row["public_path"],
        repository=row.get("public_repository", ""),
        inferred=inferred[1] if inferred else "",
        note=(inferred[2] or "") if inferred else "",
        made="modules" if config["model_type"] in explicit.EXPLICIT else "class",
    )
