"""The tp_plan of a model's classes, from the table that `hfmem.probe.tensor_plans` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Final

from hfmem.data import text as data_text
from hfmem.mapper.cuts import cut_of, is_output
from hfmem.mapper.values import Along, ParameterTable, TensorGroup, TensorPlan

__all__ = ["planned", "tensor_plan"]

_WAYS: Final[tuple[Along, ...]] = ("rows", "pairs", "columns", "whole")


def tensor_plan(types: Sequence[str], classes: Sequence[str]) -> TensorPlan:
    """The plan of a model, from its types (the whole first, then its text model), with the class name in its config.
    Types that are not in the table (remote code) get an empty plan without a source."""
    own = next(iter(classes), "")
    source = str(json.loads(_lines()[0])["source"])
    for model_type in types:
        if (row := _row(model_type)) is not None:
            return TensorPlan(
                name=own or row["types"][model_type],
                heads=row["heads"],
                states=row["states"],
                tensors=True,
                experts=row["experts"],
                source=source,
            )
        if model_type in _without():
            return TensorPlan(name=own or _without()[model_type], source=source)
    return TensorPlan(name=own or next(iter(types), "this model"))


def planned(table: ParameterTable, types: Sequence[str]) -> ParameterTable:
    """The parameters with the dimension in which the tp_plan splits each."""
    known = next((model_type for model_type in types if _row(model_type) or model_type in _without()), None)
    row = None if known is None else _row(known)
    if row is None:
        return table
    cut = row["cut"]
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
def _row(model_type: str) -> dict[str, Any] | None:
    """The row of a type: only lines that have its name are parsed."""
    name = json.dumps(model_type)
    for line in _lines()[2:]:
        if name in line and model_type in (row := json.loads(line))["types"]:
            return dict(row)
    return None


@cache
def _without() -> dict[str, str]:
    """The classes without a plan, by type."""
    return dict(json.loads(_lines()[1])["without"])


@cache
def _lines() -> list[str]:
    return data_text("tensor_plans.jsonl").splitlines()
