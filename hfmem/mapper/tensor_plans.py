"""How a model's classes are cut over tensor-parallel ranks, from the table that `hfmem.probe.tensor_plans` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any, Final

from hfmem.mapper.cuts import cut_of, is_output
from hfmem.mapper.values import Along, ParameterTable, TensorGroup, TensorPlan

__all__ = ["planned", "tensor_plan"]

_WAYS: Final[tuple[Along, ...]] = ("rows", "pairs", "columns", "whole")


def tensor_plan(types: Sequence[str], classes: Sequence[str]) -> TensorPlan:
    """The plan of a model by its types, the whole before its text model, under the name that its configuration gives
    the class; none that is known for types that the table does not have (a class of a repository's own)."""
    own = next(iter(classes), "")
    rows, without, source = _table()
    for model_type in types:
        if model_type in rows:
            row = rows[model_type]
            return TensorPlan(
                name=own or row["types"][model_type],
                heads=row["heads"],
                states=row["states"],
                tensors=True,
                experts=row["experts"],
                source=source,
            )
        if model_type in without:
            return TensorPlan(name=own or without[model_type], source=source)
    return TensorPlan(name=own or next(iter(types), "this model"))


def planned(table: ParameterTable, types: Sequence[str]) -> ParameterTable:
    """The parameters, each with the dimension in which the class of these types cuts it."""
    rows, without, _ = _table()
    known = next((model_type for model_type in types if model_type in rows or model_type in without), None)
    if known not in rows:
        return table
    cut = rows[known]["cut"]
    return ParameterTable(groups=tuple(_planned(group, cut.get(group.component)) for group in table.groups))


def _planned(group: TensorGroup, ways: Mapping[str, Sequence[str]] | None) -> TensorGroup:
    return group if ways is None else replace(group, along=_along(group, ways))


def _along(group: TensorGroup, ways: Mapping[str, Sequence[str]]) -> Along:
    """By the role as the class has it; a bias or a packed part by its matrix; a matrix that the class does not have
    under this name (experts one by one, older names) as its component is cut."""
    for role in dict.fromkeys((group.role, group.module)):
        found = next((way for way in _WAYS if role in ways.get(way, ())), None)
        if found is not None:
            return _bias(found) if group.bias and role != group.role else found
    if cut_of(group.component, group.role) in ("latent", "output_bias"):
        return "whole"
    return "columns" if is_output(group.role) else "rows"


def _bias(matrix: Along) -> Along:
    """The bias of a matrix: cut with its outputs, and whole where its inputs are cut."""
    return "whole" if matrix == "columns" else matrix


@cache
def _table() -> tuple[dict[str, dict[str, Any]], dict[str, str], str]:
    text = files("hfmem.data").joinpath("tensor_plans.jsonl").read_text(encoding="ascii")
    head, none, *rows = (json.loads(line) for line in text.splitlines())
    return {name: row for row in rows for name in row["types"]}, none["without"], str(head["source"])
