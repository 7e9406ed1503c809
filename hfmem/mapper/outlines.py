"""The modules of classes in the order in which they are placed on devices, from the table that `hfmem.probe.modules`
writes, with the tensors of a model in them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

from hfmem.data import text as data_text
from hfmem.mapper.modules import NoOutline, Outline, Tree
from hfmem.mapper.names import meaning
from hfmem.mapper.values import Architecture, Component, ParameterTable, TensorGroup

__all__ = ["outline_of"]

_OUTSIDE: Final[tuple[Component, ...]] = (
    "embedding",
    "lm_head",
    "vision",
    "audio",
    "projector",
    "other",
    "adapter",
)
"""Components of which nothing is in the blocks."""


def outline_of(architecture: Architecture, table: ParameterTable | None) -> Outline | NoOutline:
    """The modules of a model's class: the one in its config, or without one the usual class of its type."""
    if table is None or not architecture.layers:
        return NoOutline(missing="layers")
    rows, usual, source = _table()
    classes = architecture.architectures or tuple(filter(None, [usual.get(architecture.model_type or "")]))
    name = next((name for name in classes if name in rows), None)
    if name is None:
        return NoOutline(missing="class", name=next(iter(classes), architecture.model_type or ""))
    row, tied = rows[name], architecture.tied_embeddings is True
    pairs = tuple(map(tuple, row["tied"]))
    found = _parts(row["modules"], {one for pair in pairs for one in pair}, table, len(architecture.layers))
    if found is None:
        return NoOutline(missing="tensors", name=name)
    outside, inside = found
    wide = {tuple(each) for each in row["float32"]}
    return Outline(
        name=name,
        modules=row["modules"],
        tied=tuple(tuple(sorted(pair)) for pair in pairs) if tied else (),
        wide=frozenset(group.kind for group in table.groups if (group.component, group.role) in wide),
        outside=outside,
        inside=inside,
        source=f"the modules of {name} in {source}",
    )


@cache
def _table() -> tuple[dict[str, Any], dict[str, str], str]:
    text = data_text("modules.jsonl")
    head, *rows = (json.loads(line) for line in text.splitlines())
    usual = {model_type: name for row in rows for name, types in row["classes"].items() for model_type in types}
    return {name: row for row in rows for name in row["classes"]}, usual, str(head["source"])


def _parts(
    modules: Tree, tied: set[str], table: ParameterTable, depth: int
) -> tuple[dict[str, TensorGroup], tuple[tuple[TensorGroup, int], ...]] | None:
    """Which tensors are outside of the blocks, and which inside; None if a module has none, or tensors no module."""
    left = {index: group.count for index, group in enumerate(table.groups) if group.loaded}
    outside: dict[str, TensorGroup] = {}
    for name in _parameters(modules):
        index = _group(name, table, left, depth)
        if index is not None:
            left[index] -= 1
            outside[name] = table.groups[index]
        elif name.endswith(".weight") and name not in tied:
            return None
    inside = tuple((table.groups[index], count) for index, count in left.items() if count)
    return None if any(group.component in _OUTSIDE for group, _ in inside) else (outside, inside)


def _parameters(modules: Tree, prefix: str = "") -> list[str]:
    """Names of all parameters outside of the blocks."""
    found: list[str] = []
    for key, inner in modules.items():
        if isinstance(inner, dict):
            found += _parameters(inner, f"{prefix}{key}.")
        elif isinstance(inner, list):
            found += [f"{prefix}{key}.{name}" for name in inner]
    return found


def _group(name: str, table: ParameterTable, left: dict[int, int], depth: int) -> int | None:
    """The group of a parameter: by its component and role; for a table without such a role, one of its component that
    has tensors beyond those of the layers."""
    of = meaning(name, 2)
    there = [index for index, count in left.items() if count and table.groups[index].component == of.component]
    named = [index for index in there if table.groups[index].role == of.role]
    if named:
        return min(named, key=lambda index: left[index])
    bias = name.endswith(".bias")
    over = [index for index in there if table.groups[index].bias == bias and left[index] % max(1, depth)]
    return min(over, key=lambda index: left[index], default=None)
