"""What a picture has: bars of groups, and curves over context and over batch. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hfmem.advice.curves import Curve, Line, Over, curve
from hfmem.errors import HfmemError
from hfmem.estimator.values import GROUPS, Group
from hfmem.options.words import PANELS
from hfmem.report.values import Report
from hfmem.scenario.options import Options

__all__ = ["MOST_CURVES", "Bar", "Bars", "Curves", "Panel", "panels"]

MOST_CURVES: Final = 24
"""Models whose curves are drawn: more could not be told apart."""

_OVER: Final[Mapping[str, Over]] = {"context": "seq", "batch": "batch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The memory of a model, or of a phase, by group.

    Attributes:
        name: what the bar is of.
        groups: bytes of each group that has any.
        partly: whether a part is unknown.
    """

    name: str
    groups: tuple[tuple[Group, int], ...]
    partly: bool = False

    @property
    def total(self) -> int:
        """Bytes of all groups."""
        return sum(nbytes for _, nbytes in self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A panel of bars, and what each accelerator has."""

    name: str
    bars: tuple[Bar, ...]
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """A panel of one curve by group, or of the totals of several, with what each accelerator has room for.

    Attributes:
        name: `context` or `batch`.
        curves: of each model.
        lines: the accelerators.
        room: of a single model the largest size that each accelerator has room for, by name.
    """

    name: str
    curves: tuple[tuple[str, Curve], ...]
    lines: tuple[Line, ...] = ()
    room: Mapping[str, int]


Panel = Bars | Curves


def panels(reports: Sequence[Report], options: Options, names: Sequence[str] = ()) -> list[Panel]:
    """The panels of some reports.

    Args:
        reports: the reports.
        options: the scenario that they were made with.
        names: which panels; all that say something if empty.

    Returns:
        Those for which there is something to draw.
    """
    known = [report for report in reports if report.estimate.known_total is not None]
    wanted = names or [name for name in PANELS if name != "parts" or len(known) > 1]
    found = (_panel(name, known, options) for name in PANELS if name in wanted)
    return [panel for panel in found if panel is not None]


def _panel(name: str, reports: Sequence[Report], options: Options) -> Panel | None:
    if name in _OVER:
        return _curves(name, reports, options)
    bars = tuple(_phases(reports) if name == "phases" else map(_parts, reports))
    return Bars(name=name, bars=bars, lines=tuple(_lines(reports))) if bars else None


def _parts(report: Report) -> Bar:
    groups = ((group, report.estimate.group(group) or 0) for group in GROUPS)
    return Bar(
        name=report.name,
        groups=tuple((group, nbytes) for group, nbytes in groups if nbytes),
        partly=report.estimate.is_lower_bound,
    )


def _phases(reports: Sequence[Report]) -> Iterator[Bar]:
    for report in reports:
        for phase in report.estimate.phases:
            groups = tuple((group, nbytes) for group in GROUPS if (nbytes := phase.group(group)))
            peak = " (peak)" if phase.name == report.estimate.peak_phase else ""
            whose = f"{report.name}: " if len(reports) > 1 else ""
            yield Bar(name=f"{whose}{phase.name}{peak}", groups=groups, partly=report.estimate.is_lower_bound)


def _curves(name: str, reports: Sequence[Report], options: Options) -> Curves | None:
    if len(reports) > MOST_CURVES:
        return None
    found = [(report.name, each) for report in reports if (each := _curve(report, options, name)) is not None]
    if not found:
        return None
    room = {}
    if len(reports) == 1:
        sizes = ((fit, fit.max_seq if name == "context" else fit.max_batch) for fit in reports[0].fits)
        room = {fit.gpu.name: size for fit, size in sizes if size}
    return Curves(name=name, curves=tuple(found), lines=tuple(_lines(reports)), room=room)


def _curve(report: Report, options: Options, name: str) -> Curve | None:
    if len(report.models) > 1:
        return None
    try:
        return curve(report.model, options, _OVER[name], _lines([report]))
    except HfmemError:  # the engine refuses the split, as the report says
        return None


def _lines(reports: Sequence[Report]) -> list[Line]:
    """The accelerators that were named, each once."""
    by_name = {fit.gpu.name: fit for report in reports for fit in report.fits if fit.usable > 0}
    return [Line(accelerator=fit.gpu, usable=fit.usable) for fit in by_name.values()]
