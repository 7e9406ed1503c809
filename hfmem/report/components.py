"""The components of a pipeline, as rows: what each is, how many parameters it has, and what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from hfmem.estimator.weights.components import component_bytes, component_dtype
from hfmem.estimator.weights.packed import format_of
from hfmem.report.escapes import line
from hfmem.report.values import Report
from hfmem.units import format_bytes, format_count

if TYPE_CHECKING:
    from hfmem.mapper.pipelines.values import Component

__all__ = ["HEADINGS", "ComponentRow", "component_cells", "component_dicts", "component_lines", "component_rows"]

HEADINGS = ("component", "class", "parameters", "dtype", "weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentRow:
    """A component in a run.

    Attributes:
        name, class_name: its name in model_index.json, and its class.
        parameters: its parameters; None if unknown.
        dtype: what it is held in; None if unknown.
        nbytes: bytes of its weights in memory; None if unknown.
        loaded: whether it is among the files; others are needed besides.
    """

    name: str
    class_name: str
    parameters: int | None
    dtype: str | None
    nbytes: int | None
    loaded: bool = True


def component_rows(report: Report) -> tuple[ComponentRow, ...]:
    """The components of a pipeline, then what is missing of it; () for other models."""
    pipeline = report.model.pipeline
    if pipeline is None:
        return ()
    return (
        *(_row(report, component) for component in pipeline.components),
        *(_row(report, component, loaded=False) for component in pipeline.missing),
    )


def _row(report: Report, component: Component, *, loaded: bool = True) -> ComponentRow:
    dtype = component_dtype(component, report.scenario)
    estimate = report.estimate
    # what waits in the host's memory is all of it
    terms = [term for term in estimate.host or estimate.terms if term.group == "weights"]
    own = [term.nbytes for term in terms if term.name == component.name]
    packing = format_of(component, report.scenario)
    packed = component.quantisation.scheme or component.quantisation.method if component.quantisation else ""
    if packing is not None:
        packed = packing.name
    return ComponentRow(
        name=component.name,
        class_name=component.class_name,
        parameters=component.parameters.total if component.parameters else None,
        dtype=packed or dtype,
        nbytes=sum(own) if own else component_bytes(component, dtype, packing),
        loaded=loaded,
    )


def component_dicts(report: Report) -> list[dict[str, Any]] | None:
    """The rows for JSON; None for models that are no pipelines."""
    found: list[dict[str, Any]] = [
        {
            "name": row.name,
            "class": row.class_name or None,
            "parameters": row.parameters,
            "dtype": row.dtype,
            "bytes": row.nbytes,
            "loaded": row.loaded,
        }
        for row in component_rows(report)
    ]
    return found or None


def component_cells(report: Report, unit: str) -> Iterator[list[str]]:
    """The rows as text."""
    for row in component_rows(report):
        count = "?" if row.parameters is None else format_count(row.parameters)
        size = "?" if row.nbytes is None else format_bytes(row.nbytes, unit)
        yield [
            line(row.name),
            line(row.class_name),
            count,
            row.dtype or "?",
            size if row.loaded else f"{size}, not in these files",
        ]


def component_lines(report: Report, unit: str, width: int | None) -> list[str]:
    """A table for the terminal, without the classes where they do not fit; [] for models that are no pipelines."""
    rows = list(component_cells(report, unit))
    if not rows:
        return []
    found = _table(HEADINGS, rows)
    if width is not None and max(map(len, found)) > width:
        found = _table(HEADINGS[:1] + HEADINGS[2:], [row[:1] + row[2:] for row in rows])
    return found


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    alignment = ["left"] * (len(heads) - 3) + ["right", "left", "right"]
    text = tabulate(rows, headers=heads, disable_numparse=True, colalign=alignment)
    return [each.rstrip() for each in text.splitlines()]
