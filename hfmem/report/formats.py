"""Reports as text: one function per format, and the table that `--format` reads.

To add a format, write its function here with `output_format`, which adds its name and properties to the table. Choices,
help, validation and the command line read the table. Modules that produce the text are imported when a report is shown,
as `--help` only needs the names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from hfmem.report.errors import Problem
    from hfmem.report.values import Report

__all__ = ["FORMATS", "OutputFormat", "Style", "output_format", "render"]


class Style(NamedTuple):
    """How to print.

    Attributes:
        unit: `GiB` or `GB`.
        explain: whether to print every term.
        width: columns of the terminal; None without one.
        several: whether several models were requested (then it is a table, even with one report).
        ascii: whether the output is restricted to ASCII; JSON then has escapes for other characters.
        free: free bytes on the disk for downloads; None if irrelevant.
        fitting: whether it is asked what of a list fits.
        left_out: the reports on models of that list that fit nowhere.
    """

    unit: str = "GiB"
    explain: bool = False
    width: int | None = None
    several: bool = False
    ascii: bool = False
    free: int | None = None
    fitting: bool = False
    left_out: Sequence[Any] = ()  # `Report`, which `--help` need not load


_Render = Callable[..., str]
"""A function of reports, problems and a style; untyped, as `--help` must not import their classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """An output format.

    Attributes:
        name: its value of `--format`.
        render: produces the text.
        units: whether sizes are in the unit of `--unit`; otherwise in bytes.
        explains: whether it can show the arithmetic of every term (`--explain`).
        whole: whether it is a document even if no model was found, with the failures or a heading.
        json: whether it is JSON, so that `--list-gpus` prints JSON too.
        known_only: whether it omits models with unknown weights.
        reasons: whether the report of a single model contains the reason of each verdict, as formats for programs
            always do.
        full: whether it has everything about each of several reports too.
        meters: whether it has bars of letters, which a terminal shows on colours.
        bare: whether it contains only figures, so that remarks have to be printed separately.
    """

    name: str
    render: _Render
    units: bool = False
    explains: bool = False
    whole: bool = False
    json: bool = False
    known_only: bool = False
    reasons: bool = False
    full: bool = False
    meters: bool = False
    bare: bool = False


FORMATS: Final[dict[str, OutputFormat]] = {}
"""The formats by name, in the order below."""


def output_format(name: str, **traits: bool) -> Callable[[_Render], _Render]:
    """Register a function as a format with this name; the traits are fields of `OutputFormat`."""

    def add(function: _Render) -> _Render:
        FORMATS[name] = OutputFormat(name=name, render=function, **traits)
        return function

    return add


def render(name: str, reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    """The text in a format, with names escaped by its rules; empty if there is nothing to show."""
    from hfmem.report.names import told_apart

    return FORMATS[name].render(*told_apart(reports, problems), style)


@output_format("table", units=True, explains=True, reasons=True, meters=True)
def _table(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    from hfmem.report.card import to_card, to_explanation
    from hfmem.report.escapes import line, visible

    parts = []
    if style.fitting:
        from hfmem.report.fitting import to_fitting

        parts.append(to_fitting(reports, style.unit, style.width))
    elif any(report.variants is not None for report in reports):
        from hfmem.report.variants import to_variants

        parts.append(to_variants(reports, style.unit, style.width))
    elif any(report.holders is not None for report in reports):
        from hfmem.report.holders import to_holders

        parts.append(to_holders(reports, style.unit, style.width))
    elif style.several and any(report.fits for report in reports):
        from hfmem.report.fit import to_matrix

        parts.append(to_matrix(reports, style.unit, style.width))
    elif style.several:
        from hfmem.report.tables import to_table

        parts.append(to_table(reports, problems, style.unit, style.width, style.free))
    else:
        known = [report for report in reports if report.estimate.known_total is not None]
        parts += [to_card(report, style.unit, style.width, explain=style.explain) for report in known]
    if style.several:
        from hfmem.report.tables import format_lines

        parts += filter(None, [format_lines(reports, style.width)])
    if style.explain:
        for report in reports:
            title = f"{line(report.name)}\n" if style.several else ""
            parts.append(title + to_explanation(report, style.unit, style.width))
    return visible("\n\n".join(parts))


@output_format("json", whole=True, json=True, full=True)
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
    if style.fitting:
        from hfmem.report.fitting import left_out_dicts

        document["left_out"] = left_out_dicts(style.left_out)
    return json_text(document, indent=2, ascii_only=style.ascii)


@output_format("jsonl", whole=True, json=True, full=True)
def _jsonl(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    from hfmem.report.errors import sizeless
    from hfmem.report.escapes import json_text
    from hfmem.report.result import to_result

    failures = (*problems, *sizeless(reports))
    lines = [to_result(report) for report in reports] + [problem.as_dict() for problem in failures]
    return "\n".join(json_text(each, ascii_only=style.ascii) for each in lines)


@output_format("csv", whole=True)
def _csv(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:  # noqa: ARG001 - one signature
    from hfmem.report.holders import holders_csv
    from hfmem.report.tables import to_csv
    from hfmem.report.variants import variants_csv

    if any(report.variants is not None for report in reports):
        return variants_csv(reports)
    if any(report.holders is not None for report in reports):
        return holders_csv(reports)
    return to_csv(reports, problems)


@output_format("markdown", units=True)
def _markdown(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    from hfmem.report.holders import to_holders
    from hfmem.report.tables import to_markdown
    from hfmem.report.variants import to_variants

    if any(report.variants is not None for report in reports):
        return to_variants(reports, style.unit, None, style="github")
    if any(report.holders is not None for report in reports):
        return to_holders(reports, style.unit, None, style="github")
    return to_markdown(reports, problems, style.unit)


@output_format("html", units=True, explains=True, whole=True, reasons=True, full=True)
def _html(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    """A page that needs nothing else. It always has the arithmetic of every term."""
    from hfmem.report.html.page import page

    return page(reports, problems, style.unit)


@output_format("quiet", known_only=True, bare=True)
def _quiet(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:  # noqa: ARG001 - one signature
    """Id, total in bytes, and the verdict for each given accelerator, separated by tabs."""
    from hfmem.report.escapes import line

    rows = [
        (line(report.name), str(report.estimate.total), *(fit.verdict for fit in report.fits)) for report in reports
    ]
    return "\n".join("\t".join(row) for row in rows)


@output_format("agent", whole=True)
def _agent(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:  # noqa: ARG001 - one signature
    """Rows for agents, as `hf --format agent` has them: tab-separated, with a heading, nothing shortened; columns
    without any value are left out."""
    from hfmem.report.escapes import line
    from hfmem.report.flat import flat

    found = flat([*reports, *problems])
    names = [name for name in found.kinds if any(value not in (None, 0) for value in found.column(name))]
    rows = [["" if row[name] is None else line(str(row[name])) for name in names] for row in found.rows]
    return "\n".join("\t".join(row) for row in [names or list(found.kinds), *rows])
