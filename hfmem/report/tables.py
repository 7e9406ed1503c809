"""Several models side by side: a table that fits the terminal, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from typing import Final

from tabulate import tabulate

from hfmem.report.columns import COLUMNS, Column
from hfmem.report.errors import Problem
from hfmem.report.values import Report

__all__ = ["format_lines", "to_csv", "to_markdown", "to_table"]

_NAMED: Final = 3
_WIDEST: Final = 100


def to_table(reports: Sequence[Report], problems: Sequence[Problem], unit: str, width: int | None) -> str:
    """One row a model, failures last; columns that do not fit `width` are left out, the least telling first."""
    columns = list(_columns(reports))
    while True:
        text = _render(reports, problems, columns, unit, "simple")
        if width is None or len(columns) <= 2 or max(map(len, text.splitlines())) <= width:
            return text
        columns.remove(max(columns, key=lambda column: column.rank))


def format_lines(reports: Sequence[Report], width: int | None) -> str:
    """What a number format does to the figures of a table, each sentence once with the models that it is about."""
    about: dict[str, list[str]] = {}
    for report in reports:
        for sentence in report.estimate.formats:
            about.setdefault(sentence, []).append(report.checkpoint.ref.model_id)
    lines = []
    for sentence, models in about.items():
        more = f" and {len(models) - _NAMED} more" if len(models) > _NAMED else ""
        named = ", ".join(models[:_NAMED]) + more
        line = f"- {sentence}" if len(models) == len(reports) else f"- {named}: {sentence}"
        lines.append(
            textwrap.fill(
                line, width or _WIDEST, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
        )
    return "\n".join(lines)


def to_markdown(reports: Sequence[Report], problems: Sequence[Problem], unit: str) -> str:
    """A GitHub table of every column."""
    return _render(reports, problems, _columns(reports), unit, "github")


def to_csv(reports: Sequence[Report], problems: Sequence[Problem]) -> str:
    """One line a model; sizes in bytes, unknown ones empty; failures with their class in the last column."""
    stream = io.StringIO()
    columns = _columns(reports, ("master_weights", "temporary"))
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*(column.key for column in columns), "batch", "source", "total_is_lower_bound", "error"])
    for report in reports:
        figures = [column.value(report) for column in columns]
        extra = [report.scenario.batch, report.checkpoint.source, str(report.estimate.is_lower_bound).lower(), ""]
        writer.writerow(["" if figure is None else figure for figure in figures] + extra)
    for problem in problems:
        writer.writerow([problem.model, *[""] * (len(columns) + 2), problem.code])
    return stream.getvalue().rstrip("\n")


_ONLY_TRAINING: Final = ("gradients", "optimizer", "master_weights", "temporary")


def _columns(reports: Sequence[Report], only_training: Sequence[str] = _ONLY_TRAINING) -> list[Column]:
    """The columns that say something: gradients, optimizer states and the like only where there are any."""
    training = any(report.scenario.train for report in reports)
    return [column for column in COLUMNS if training or column.key not in only_training]


def _render(
    reports: Sequence[Report], problems: Sequence[Problem], columns: Sequence[Column], unit: str, style: str
) -> str:
    headers = [f"{column.title} ({unit})" if column.kind == "bytes" else column.title for column in columns]
    if style == "simple":
        headers = [header.replace(" (", "\n(") for header in headers]
    rows = [[column.text(report, unit) for column in columns] for report in reports]
    rows += [
        [problem.model, f"failed: {problem.code.removesuffix('_error').replace('_', ' ')}"] for problem in problems
    ]
    alignment = ["left" if column.kind == "word" else "right" for column in columns]
    return tabulate(
        rows, headers=headers, tablefmt=style, disable_numparse=True, colalign=alignment if reports else None
    )
