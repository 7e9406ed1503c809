"""The tp_plan of a model's classes, from the table that `hfmem.probe.tensor_plans` writes."""

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
    """The plan of a model, from its types (the whole first, then its text model), with the class name in its config.
    Types that are not in the table (remote code) get an empty plan without a source."""
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
    """The parameters with the dimension in which the tp_plan splits each."""
    rows, without, _ = _table()
    known = next((model_type for model_type in types if model_type in rows or model_type in without), None)
    if known not in rows:
        return table
    cut = rows[known]["cut"]
    return ParameterTable(groups=tuple(_planned(group, cut.get(group.component)) for group in table.groups))


def _planned(group: TensorGroup, ways: Mapping[str, Sequence[str]] | None) -> TensorGroup:
    return group if ways is None else replace(group, along=_along(group, ways))


def _along(group: TensorGroup, ways: Mapping[str, Sequence[str]]) -> Along:
    """The dimension by the role's name in the class; for biases and packed tensors by their matrix. A matrix that the
    class does not have under this name (separate experts, older names) is split like its component."""
    for role in dict.fromkeys((group.role, group.module)):
        found = next((way for way in _WAYS if role in ways.get(way, ())), None)
        if found is not None:
            return _bias(found) if group.bias and role != group.role else found
    if cut_of(group.component, group.role) in ("latent", "output_bias"):
        return "whole"
    return "columns" if is_output(group.role) else "rows"


def _bias(matrix: Along) -> Along:
    """The bias of a matrix: split along with its outputs, replicated if its inputs are split (row parallel)."""
    return "whole" if matrix == "columns" else matrix


@cache
def _table() -> tuple[dict[str, dict[str, Any]], dict[str, str], str]:
    text = files("hfmem.data").joinpath("tensor_plans.jsonl").read_text(encoding="ascii")
    head, none, *rows = (json.loads(line) for line in text.splitlines())
    return {name: row for row in rows for name in row["types"]}, none["without"], str(head["source"])
