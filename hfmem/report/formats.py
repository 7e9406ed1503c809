"""Reports as text: one function a format, and the table that `--format` reads.

To add a format: write its function here, with the name and traits that `output_format` puts into the table. Nothing
else knows it: choices, help, checks and the command line ask the table. What makes the text is imported when a report
is shown, since `--help` asks for the names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hfmem.report.errors import Problem
    from hfmem.report.values import Report

__all__ = ["FORMATS", "OutputFormat", "Style", "output_format", "render"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How to show.

    Attributes:
        unit: `GiB` or `GB`.
        explain: whether to print every term.
        width: columns of the terminal; None where there is none.
        several: whether several models were asked for (a table, even if one answered).
        ascii: whether what is printed to takes ASCII alone; JSON then has escapes for the rest.
        free: bytes that are free on the disk that downloads go to; None where that does not matter.
    """

    unit: str = "GiB"
    explain: bool = False
    width: int | None = None
    several: bool = False
    ascii: bool = False
    free: int | None = None


_Render = Callable[..., str]
"""Of reports, problems and a style: their classes load what `--help` does not need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """A way to print reports.

    Attributes:
        name: its word for `--format`.
        render: makes the text.
        units: whether it shows sizes in a unit of choice; others have bytes.
        explains: whether it has a place for the arithmetic of every term (`--explain`).
        whole: whether it is a document even where no model was found: the failures are in it, or a heading.
        json: whether it is for programs, which get lists of accelerators as JSON too.
        notes: whether it has the remarks on a model; of several only where it is JSON.
        known_only: whether models are left out whose weights are not known.
    """

    name: str
    render: _Render
    units: bool = False
    explains: bool = False
    whole: bool = False
    json: bool = False
    notes: bool = False
    known_only: bool = False


FORMATS: Final[dict[str, OutputFormat]] = {}
"""The formats by name, as they stand below."""


def output_format(name: str, **traits: bool) -> Callable[[_Render], _Render]:
    """Put a function into the table as a format of that name; the traits are fields of `OutputFormat`."""

    def add(function: _Render) -> _Render:
        FORMATS[name] = OutputFormat(name=name, render=function, **traits)
        return function

    return add


def render(name: str, reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    """The text of a format, names escaped by its rules; empty where there is nothing to show."""
    return FORMATS[name].render(reports, problems, style)


@output_format("table", units=True, explains=True, notes=True)
def _table(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    from hfmem.report.card import to_card, to_explanation
    from hfmem.report.escapes import line, visible
    from hfmem.report.fit import to_matrix
    from hfmem.report.tables import format_lines, to_table

    parts = []
    if style.several and any(report.fits for report in reports):
        parts.append(to_matrix(reports, style.unit, style.width))
    elif style.several:
        parts.append(to_table(reports, problems, style.unit, style.width, style.free))
    else:
        known = [report for report in reports if report.estimate.known_total is not None]
        parts += [to_card(report, style.unit, style.width) for report in known]
    if style.several and (lines := format_lines(reports, style.width)):
        parts.append(lines)
    if style.explain:
        for report in reports:
            title = f"{line(report.checkpoint.ref.model_id)}\n" if style.several else ""
            parts.append(title + to_explanation(report, style.unit, style.width))
    return visible("\n\n".join(parts))


@output_format("json", whole=True, json=True, notes=True)
def _json(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    from hfmem import __version__
    from hfmem.report.escapes import json_text
    from hfmem.report.result import SCHEMA, to_result

    document = {
        "schema": SCHEMA,
        "hfmem": __version__,
        "results": [to_result(report) for report in reports],
        "errors": [problem.as_dict() for problem in problems],
    }
    return json_text(document, indent=2, ascii_only=style.ascii)


@output_format("jsonl", whole=True, json=True, notes=True)
def _jsonl(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    from hfmem.report.escapes import json_text
    from hfmem.report.result import to_result

    lines = [to_result(report) for report in reports] + [problem.as_dict() for problem in problems]
    return "\n".join(json_text(each, ascii_only=style.ascii) for each in lines)


@output_format("csv", whole=True)
def _csv(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:  # noqa: ARG001 - one signature
    from hfmem.report.tables import to_csv

    return to_csv(reports, problems)


@output_format("markdown", units=True)
def _markdown(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    from hfmem.report.tables import to_markdown

    return to_markdown(reports, problems, style.unit)


@output_format("quiet", known_only=True)
def _quiet(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:  # noqa: ARG001 - one signature
    """Id, total in bytes, and for each accelerator that was named whether it fits; tabs between them."""
    from hfmem.report.escapes import line
    from hfmem.report.fit import verdict

    rows = [
        (line(report.checkpoint.ref.model_id), str(report.estimate.total), *map(verdict, report.fits or ()))
        for report in reports
    ]
    return "\n".join("\t".join(row) for row in rows)
