"""Reports as text: one function per format, and the table that `--format` reads.

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
        known_only: whether models are left out whose weights are not known.
        reasons: whether a single model's answer has the reason of each verdict; documents for programs have all.
        bare: whether it has figures alone, so that what they lack has to be told beside it.
    """

    name: str
    render: _Render
    units: bool = False
    explains: bool = False
    whole: bool = False
    json: bool = False
    known_only: bool = False
    reasons: bool = False
    bare: bool = False


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
    from hfmem.report.names import told_apart

    return FORMATS[name].render(*told_apart(reports, problems), style)


@output_format("table", units=True, explains=True, reasons=True)
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
            title = f"{line(report.name)}\n" if style.several else ""
            parts.append(title + to_explanation(report, style.unit, style.width))
    return visible("\n\n".join(parts))


@output_format("json", whole=True, json=True)
def _json(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    from hfmem import __version__
    from hfmem.report.errors import sizeless
    from hfmem.report.escapes import json_text
    from hfmem.report.result import SCHEMA, to_result

    document = {
        "schema": SCHEMA,
        "hfmem": __version__,
        "results": [to_result(report) for report in reports],
        "errors": [problem.as_dict() for problem in (*problems, *sizeless(reports))],
    }
    return json_text(document, indent=2, ascii_only=style.ascii)


@output_format("jsonl", whole=True, json=True)
def _jsonl(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    from hfmem.report.errors import sizeless
    from hfmem.report.escapes import json_text
    from hfmem.report.result import to_result

    failures = (*problems, *sizeless(reports))
    lines = [to_result(report) for report in reports] + [problem.as_dict() for problem in failures]
    return "\n".join(json_text(each, ascii_only=style.ascii) for each in lines)


@output_format("csv", whole=True)
def _csv(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:  # noqa: ARG001 - one signature
    from hfmem.report.tables import to_csv

    return to_csv(reports, problems)


@output_format("markdown", units=True)
def _markdown(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    from hfmem.report.tables import to_markdown

    return to_markdown(reports, problems, style.unit)


@output_format("quiet", known_only=True, bare=True)
def _quiet(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:  # noqa: ARG001 - one signature
    """Id, total in bytes, and for each accelerator that was named whether it fits; tabs between them."""
    from hfmem.report.escapes import line

    rows = [
        (line(report.name), str(report.estimate.total), *(fit.verdict for fit in report.fits)) for report in reports
    ]
    return "\n".join("\t".join(row) for row in rows)
