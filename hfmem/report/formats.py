"""Reports as text: one function a format, and the table that `--format` reads.

To add a format: write its function here, and name it in `FORMATS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hfmem import __version__
from hfmem.report.card import to_card, to_explanation
from hfmem.report.errors import Problem
from hfmem.report.fit import to_matrix
from hfmem.report.result import SCHEMA, to_result
from hfmem.report.tables import format_lines, to_csv, to_markdown, to_table
from hfmem.report.values import Report

__all__ = ["FORMATS", "Style", "render"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How to show.

    Attributes:
        unit: `GiB` or `GB`.
        explain: whether to print every term.
        width: columns of the terminal; None where there is none.
        several: whether several models were asked for (a table, even if one answered).
    """

    unit: str = "GiB"
    explain: bool = False
    width: int | None = None
    several: bool = False


_Render = Callable[[Sequence[Report], Sequence[Problem], Style], str]


def render(name: str, reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    """The text of a format; empty where there is nothing to show."""
    return FORMATS[name](reports, problems, style)


def _table(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    parts = []
    if style.several and any(report.fits for report in reports):
        parts.append(to_matrix(reports, style.unit, style.width))
    elif style.several:
        parts.append(to_table(reports, problems, style.unit, style.width))
    else:
        parts += [to_card(report, style.unit, style.width) for report in reports]
    if style.several and (lines := format_lines(reports, style.width)):
        parts.append(lines)
    if style.explain:
        for report in reports:
            title = f"{report.checkpoint.ref.model_id}\n" if style.several else ""
            parts.append(title + to_explanation(report, style.unit, style.width))
    return "\n\n".join(parts)


def _json(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:  # noqa: ARG001 - one signature
    document = {
        "schema": SCHEMA,
        "hfmem": __version__,
        "results": [to_result(report) for report in reports],
        "errors": [problem.as_dict() for problem in problems],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _jsonl(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:  # noqa: ARG001 - one signature
    lines = [to_result(report) for report in reports] + [problem.as_dict() for problem in problems]
    return "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)


def _csv(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:  # noqa: ARG001 - one signature
    return to_csv(reports, problems)


def _markdown(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:
    return to_markdown(reports, problems, style.unit)


def _quiet(reports: Sequence[Report], problems: Sequence[Problem], style: Style) -> str:  # noqa: ARG001 - one signature
    return "\n".join(f"{report.checkpoint.ref.model_id}\t{report.estimate.total}" for report in reports)


FORMATS: Final[dict[str, _Render]] = {
    "table": _table,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "markdown": _markdown,
    "quiet": _quiet,
}
