"""Comparisons of several models: a table that fits the terminal, Markdown, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tabulate import tabulate

from hfmem.options.otherwise import Detail
from hfmem.report.choices import choice_markdown
from hfmem.report.columns import COLUMNS, Column
from hfmem.report.errors import Problem, sizeless
from hfmem.report.escapes import csv_cell, line, markdown_cell
from hfmem.report.fit import fit_cell, machine_name
from hfmem.report.values import Report
from hfmem.report.width import fold, left_out, narrowed, shortened, widest
from hfmem.units import format_bytes

if TYPE_CHECKING:
    from hfmem.advice.values import Fit

__all__ = ["format_lines", "to_csv", "to_markdown", "to_table"]

_NAMED: Final = 3  # models named in a remark


def to_table(
    reports: Sequence[Report], problems: Sequence[Problem], unit: str, width: int | None, free: int | None = None
) -> str:
    """One row per model, failures last; columns that do not fit `width` are omitted, least important first, and named.

    With `free` bytes on the disk, there is a column of downloads that do not fit.
    """

    def least(column: Column) -> tuple[bool, int]:
        return all(column.value(report) == 0 for report in reports), column.rank

    def show(columns: Sequence[Column]) -> str:
        return _render(reports, problems, columns, unit, "simple")

    columns = [*_columns(reports), *_disk(reports, unit, free)]
    text, out = narrowed(columns, show, width, least, kept=2)
    if width is not None and widest(text) > width:
        text = _with_short_names(reports, problems, unit, width)
    if not out:
        return text
    names = [column.title.partition(" (")[0] for column in columns if column in out]
    return f"{text}\n{fold(left_out(names, 'markdown'), width or _WIDEST)}"


_WIDEST: Final = 100
_SHORTEST: Final = 12  # characters of a name


def _with_short_names(reports: Sequence[Report], problems: Sequence[Problem], unit: str, width: int) -> str:
    """Only names and totals, with names shortened to the available room."""
    name, total = (column for column in COLUMNS if column.key in ("model", "total"))
    longest = max(len(item) for item in _names(reports, problems))
    for room in range(max(longest, _SHORTEST), _SHORTEST - 1, -1):
        short = replace(name, value=_short_name(room))
        failed = [replace(problem, label=shortened(problem.name, room)) for problem in problems]
        text = _render(reports, failed, [short, total], unit, "simple")
        if widest(text) <= width:
            break
    return text


def _short_name(room: int) -> Callable[[Report], str]:
    return lambda report: shortened(report.name, room)


def _names(reports: Sequence[Report], problems: Sequence[Problem]) -> list[str]:
    return [report.name for report in reports] + [problem.name for problem in problems]


def _disk(reports: Sequence[Report], unit: str, free: int | None) -> list[Column]:
    """A column of downloads larger than the free disk space, if there are any."""
    if free is None:
        return []

    def room(report: Report) -> str:
        needed = 0 if report.checkpoint.source == "local" else report.download.nbytes or 0
        return "too small" if needed > free else ""

    title = f"disk ({format_bytes(free, unit)} free)"
    return [Column(key="disk", title=title, value=room, kind="word", rank=5)] if any(map(room, reports)) else []


def format_lines(reports: Sequence[Report], width: int | None) -> str:
    """Sentences on number formats that change the figures of a table, each once with the models that it applies to."""
    about: dict[str, list[str]] = {}
    for report in reports:
        for sentence in report.estimate.formats:
            if isinstance(sentence, Detail):
                continue
            about.setdefault(sentence, []).append(report.name)
    lines = []
    for sentence, models in about.items():
        more = f" and {len(models) - _NAMED} more" if len(models) > _NAMED else ""
        whose = "" if len(models) == len(reports) else f"{', '.join(models[:_NAMED])}{more}: "
        lines.append(fold(line(f"- {whose}{sentence}"), width or _WIDEST))
    return "\n".join(lines)


def to_markdown(reports: Sequence[Report], problems: Sequence[Problem], unit: str) -> str:
    """A GitHub table with all columns, and one column for each given accelerator; below it, the quantisations of a
    single model."""
    text = _render(reports, problems, _columns(reports), unit, "github")
    single = reports[0].choices if len(reports) == 1 and not problems else ()
    return f"{text}\n\n{choice_markdown(single, unit)}" if single else text


def to_csv(reports: Sequence[Report], problems: Sequence[Problem]) -> str:
    """One line per model, with sizes in bytes, empty if unknown. For each given accelerator, whether it fits, the
    headroom and the verdict; for failures, the error class in the last column."""
    stream = io.StringIO()
    columns = _columns(reports, ("master_weights", "temporary"))
    writer = csv.writer(stream, lineterminator="\n")
    machines = _machines(reports)
    verdicts = [f"{what}: {name}" for name in machines for what in ("fits", "headroom", "verdict")]
    keys = [*(column.key for column in columns), "batch", "source", "total_is_lower_bound", *verdicts, "error"]
    writer.writerow(map(csv_cell, keys))
    for report in reports:
        row = [column.value(report) for column in columns]
        row += [report.scenario.batch, report.checkpoint.source, str(report.estimate.is_lower_bound).lower()]
        for name in machines:
            fit = _fit(report, name)
            row += [None, None, None] if fit is None else [_FITS[fit.verdict], fit.headroom, fit.verdict]
        failure = next((problem.code for problem in sizeless([report])), "")
        writer.writerow(map(csv_cell, [*row, failure]))
    for problem in problems:
        writer.writerow(map(csv_cell, [problem.name, *[""] * (len(keys) - 2), problem.code]))
    return stream.getvalue().rstrip("\n")


_FITS: Final = {"fits": "true", "tight": "true", "no": "false", "refused": "false", "unknown": None}
"""Values of CSV's `fits` columns by verdict."""


def _machines(reports: Sequence[Report]) -> tuple[str, ...]:
    """The given accelerators, in order."""
    return tuple(dict.fromkeys(machine_name(fit) for report in reports for fit in report.fits))


def _fit(report: Report, name: str) -> Fit | None:
    return next((fit for fit in report.fits if machine_name(fit) == name), None)


_LOW: Final = Column(
    key="total_low",
    title="total, at least",
    value=lambda report: None if report.estimate.known_total is None else report.estimate.low,
    kind="bytes",
    rank=5,
)
"""The low end, if the total of a row is a range."""

_ONLY_TRAINING: Final = ("gradients", "optimizer", "master_weights", "temporary")


def _columns(reports: Sequence[Report], only_training: Sequence[str] = _ONLY_TRAINING) -> list[Column]:
    """The relevant columns: gradients, optimizer states and the like only if there are any."""
    training = any(report.scenario.train for report in reports)
    shown = [column for column in COLUMNS if training or column.key not in only_training]
    if any(report.estimate.spared for report in reports):
        shown.insert(next(index for index, column in enumerate(shown) if column.key == "total"), _LOW)
    return shown


def _render(
    reports: Sequence[Report], problems: Sequence[Problem], columns: Sequence[Column], unit: str, style: str
) -> str:
    headers = [f"{column.title} ({unit})" if column.kind == "bytes" else column.title for column in columns]
    if style == "simple":
        headers = [header.replace(" (", "\n(") for header in headers]
    machines = _machines(reports) if style == "github" else ()  # tables have a matrix for them
    headers += [f"{name}, free ({unit})" for name in machines]
    rows = [
        [column.text(report, unit) for column in columns] + [fit_cell(_fit(report, name), unit) for name in machines]
        for report in reports
    ]
    rows += [
        [line(problem.name), f"failed: {problem.code.removesuffix('_error').replace('_', ' ')}"] for problem in problems
    ]
    if style == "github":
        headers, rows = [*map(markdown_cell, headers)], [[*map(markdown_cell, row)] for row in rows]
    alignment = ["left" if column.kind == "word" else "right" for column in columns] + ["right"] * len(machines)
    return tabulate(
        rows, headers=headers, tablefmt=style, disable_numparse=True, colalign=alignment if reports else None
    )
