"""The accelerators and instances that hold a model: tables, Markdown, CSV, and `holders` of JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tabulate import tabulate

from hfmem.advice.values import Fit
from hfmem.report.escapes import csv_cell, line
from hfmem.report.fit import fit_dict
from hfmem.report.values import Report
from hfmem.report.width import fold
from hfmem.units import format_bytes

__all__ = ["holder_dicts", "holders_csv", "to_holders"]

_SHOWN: Final = 12  # rows of a table; JSON and CSV have all
_WIDEST: Final = 100
_COLUMNS: Final = (
    "model",
    "gpu",
    "instance",
    "gpus",
    "memory",
    "usable",
    "total",
    "headroom",
    "verdict",
)


def to_holders(reports: Sequence[Report], unit: str, width: int | None, *, style: str = "simple") -> str:
    """Two tables for each model: its accelerators and its instances, the fewest and smallest first."""
    return "\n\n".join("\n".join(_lines(report, unit, width, style)) for report in reports)


def _lines(report: Report, unit: str, width: int | None, style: str) -> Iterator[str]:
    found = report.holders or ()
    sign = "≥ " if report.estimate.is_lower_bound else ""
    tokens = "" if report.model.pipeline is not None else f" × {report.scenario.seq:,} tokens"
    total = f"{sign}{format_bytes(report.estimate.total, unit)} on one with room for it"
    what = f"{line(report.name)}: batch {report.scenario.batch}{tokens}, {total}"
    yield fold(what, width or _WIDEST)
    if not found:
        yield fold(_nothing(report), width or _WIDEST)
    for title, rows in (
        ("accelerators", [fit for fit in found if not fit.machine.instance]),
        ("instances", [fit for fit in found if fit.machine.instance]),
    ):
        if rows:
            yield ""
            yield from _table(title, rows, unit, style).splitlines()
        if len(rows) > _SHOWN:
            yield f"and {len(rows) - _SHOWN:,} more: --format json or csv has them"


def _table(title: str, fits: Sequence[Fit], unit: str, style: str) -> str:
    rows = []
    for fit in fits[:_SHOWN]:
        room = format_bytes(fit.headroom or 0, unit, label=False)
        cards = f"{fit.machine.count or 1} × {fit.gpu.name}"
        named = [fit.machine.instance, cards] if fit.machine.instance else [cards]
        rows.append([*named, format_bytes(fit.usable, unit, label=False), room, fit.verdict])
    headers = [title, *(["holds"] if title == "instances" else []), f"usable each ({unit})", f"free ({unit})", ""]
    alignment = ["left"] * (len(headers) - 3) + ["right", "right", "left"]
    return tabulate(rows, headers=headers, tablefmt=style, disable_numparse=True, colalign=alignment)


def _nothing(report: Report) -> str:
    """Why no machine is named."""
    if report.estimate.is_lower_bound:
        told = "; ".join(f"{group.replace('_', ' ')}: {reason}" for group, reason in report.estimate.unknown)
        return f"No machine can be named, as part of the total is unknown: {told}."
    if report.estimate.refused:
        return f"No machine: {report.estimate.refused}."
    return "No accelerator of the table holds it, up to eight of one kind, and no instance."


def holder_dicts(fits: Sequence[Fit]) -> list[dict[str, Any]]:
    """`holders` of JSON: rows as those of `fit`."""
    return [fit_dict(fit) for fit in fits]


def holders_csv(reports: Sequence[Report]) -> str:
    """A line for each machine of each model."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for report in reports:
        for fit in report.holders or ():
            found = {"model": report.name, **fit_dict(fit), "gpu": fit.gpu.name}
            writer.writerow(csv_cell(found[name]) for name in _COLUMNS)
    return stream.getvalue().rstrip("\n")
