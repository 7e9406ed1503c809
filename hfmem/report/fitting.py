"""What of a list fits: the largest models first, then those of which nobody knows; the others are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tabulate import tabulate

from hfmem.advice.values import Fit
from hfmem.report.escapes import line
from hfmem.report.fit import machine_name, to_matrix
from hfmem.report.values import Report
from hfmem.report.width import fold, left_out, narrowed, shortened, widest
from hfmem.units import format_bytes, format_count

__all__ = ["Fitting", "fitting", "left_out_dicts", "left_out_words", "to_fitting"]

_WIDEST: Final = 100
_SHORTEST: Final = 16  # characters of a model's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """The reports of a list by their answer.

    Attributes:
        shown: those that fit on an accelerator, the largest first, then those whose fit is unknown.
        left: those that fit on none, in their order.
    """

    shown: list[Report]
    left: list[Report]


def fitting(reports: Iterable[Report]) -> Fitting:
    """The reports by their answer."""
    by_answer: dict[bool | None, list[Report]] = {True: [], None: [], False: []}
    for report in reports:
        verdicts = [fit.fits for fit in report.fits]
        by_answer[True if True in verdicts else None if None in verdicts else False].append(report)
    shown = [report for answer in (True, None) for report in sorted(by_answer[answer], key=_smallness)]
    return Fitting(shown=shown, left=by_answer[False])


def _smallness(report: Report) -> tuple[int, int, str]:
    parameters = report.parameters.total if report.parameters else 0
    return -parameters, -report.estimate.total, report.name


def to_fitting(reports: Sequence[Report], unit: str, width: int | None) -> str:
    """A table for one accelerator, or a matrix of models × accelerators."""
    names = dict.fromkeys(machine_name(fit) for report in reports for fit in report.fits)
    if len(names) != 1:
        return to_matrix(reports, unit, width) if reports else ""
    columns = _columns(reports, unit)
    longest = max(len(line(report.name)) for report in reports)
    for length in range(longest, min(longest, _SHORTEST) - 1, -1):
        named = [_Column(title=f"fits on {next(iter(names))}", text=_name(length), rank=0, word=True), *columns]
        if width is None or widest(_table(reports, named)) <= width:
            break
    text, out = narrowed(named, lambda some: _table(reports, some), width, lambda column: column.rank, kept=2)
    told = [left_out([column.title.replace("\n", " ") for column in named if column in out], "csv")] if out else []
    return "\n".join([text, *(fold(each, width or _WIDEST) for each in told)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    title: str
    text: Callable[[Report], str]
    rank: int
    word: bool = False


def _columns(reports: Sequence[Report], unit: str) -> list[_Column]:
    """The columns after the name; those without any value are left out."""

    def free(report: Report) -> str:
        fit = report.fits[0]
        room = "" if fit.headroom is None else format_bytes(fit.headroom, unit, label=False)
        return {"fits": room, "tight": f"tight, {room}"}.get(fit.verdict, fit.verdict)

    def total(report: Report) -> str:
        sign = "≥ " if report.estimate.is_lower_bound else ""
        return sign + format_bytes(report.estimate.total, unit, label=False)

    found = [
        _Column(
            title="parameters",
            text=lambda report: format_count(report.parameters.total) if report.parameters else "?",
            rank=3,
        ),
        _Column(title="dtype", text=lambda report: line(report.scenario.dtype or "?"), rank=4, word=True),
        _Column(title=f"total\n({unit})", text=total, rank=1),
        _Column(title=f"free\n({unit})", text=free, rank=0),
        _Column(title="context\nup to", text=lambda report: _number(report.fits[0].max_seq), rank=0),
        _Column(title="batch\nup to", text=lambda report: _number(report.fits[0].max_batch), rank=2),
        _Column(title="tokens/s\nat most", text=_speed, rank=2),
    ]
    return [column for column in found if any(column.text(report) for report in reports)]


def _speed(report: Report) -> str:
    """Tokens of one sequence in a second, by the memory that is read for each."""
    found = report.fits[0].speed
    return "" if found is None else f"{found.most:,.0f}"


def _number(value: int | None) -> str:
    return f"{value:,}" if value else ""


def _name(length: int) -> Callable[[Report], str]:
    return lambda report: shortened(line(report.name), length)


def _table(reports: Sequence[Report], columns: Sequence[_Column]) -> str:
    rows = [[column.text(report) for column in columns] for report in reports]
    alignment = ["left" if column.word else "right" for column in columns]
    return tabulate(rows, headers=[column.title for column in columns], disable_numparse=True, colalign=alignment)


def left_out_words(left: Sequence[Report], of: int) -> str:
    """How many models fit nowhere, in a sentence; "" for none."""
    if not left:
        return ""
    refused = sum(all(fit.verdict == "refused" for fit in report.fits) for report in left)
    some = f", {refused:,} of them because the engine refuses them" if refused else ""
    noun, verb = "model" if of == 1 else "models", "does" if len(left) == 1 else "do"
    return f"{len(left):,} of {of:,} {noun} {verb} not fit{some}."


def left_out_dicts(left: Iterable[Report]) -> list[dict[str, Any]]:
    """`left_out` of JSON: each model that fits nowhere, with the verdict and what is missing on each accelerator."""
    return [
        {"model": report.name, "total": report.estimate.known_total, "fit": _verdicts(report.fits)} for report in left
    ]


def _verdicts(fits: Iterable[Fit]) -> list[dict[str, Any]]:
    return [
        {"gpu": machine_name(fit), "verdict": fit.verdict, "headroom": fit.headroom, "refused": fit.refused or None}
        for fit in fits
    ]
