"""Messages printed with an answer: one sentence each, on standard error. What the output format already shows is not
repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from hfmem.fetcher.disk import cache_room
from hfmem.options.otherwise import Otherwise
from hfmem.report.fit import by_some, machine_name, tight_words
from hfmem.report.sentences import in_which_case
from hfmem.units import format_bytes

if TYPE_CHECKING:
    from hfmem.advice.values import Fit
    from hfmem.report.formats import OutputFormat, Style
    from hfmem.report.values import Report

__all__ = ["free_room", "remarks"]

_NAMED: Final = 3  # models named in a remark


def remarks(
    reports: Sequence[Report],
    style: Style,
    *,
    output: OutputFormat,
    named: Sequence[str] = (),
    tight: bool = False,
) -> Iterator[str]:
    """The sentences on some reports.

    Args:
        reports: the reports shown.
        style: how they are shown.
        output: the format.
        named: the values of `--gpu`.
        tight: whether to report tight fits, which count as fits for the exit code.
    """
    yield from _named(reports, named)
    reasons = output.full or (output.reasons and not style.several)
    if not reasons:
        yield from _otherwise(reports)
    for report in reports:
        if not style.several:  # tables have a column
            yield from _disk(report, style.unit)
        if output.bare and report.estimate.is_lower_bound:
            yield f"{report.name}: at least {format_bytes(report.estimate.total, style.unit)}: {_lacking(report)}."
        elif not reasons and any(fit.estimate and fit.estimate.is_lower_bound for fit in _of(report, "unknown")):
            yield f"{report.name}: the fit is unknown: {_lacking(report)}."
        if not reasons:
            yield from _refusals(report)
            yield from _some(report, style.unit)
        if tight:
            yield from _tight(report, style.unit)


def _named(reports: Sequence[Report], named: Sequence[str]) -> Iterator[str]:
    """Sentences on given accelerators that do not exist here, or are the same as an earlier one."""
    machines = {fit.machine for report in reports for fit in report.fits}
    for machine in machines:
        if not machine.there:
            yield (
                f"--gpu {machine.asked}: {machine.accelerator.source}, so the fit is unknown; name one, such as "
                "--gpu 4090 (--list-gpus shows all)."
            )
    shown = {machine.asked for machine in machines}
    for index, word in enumerate(named if reports else ()):
        if word not in shown or word in named[:index]:
            yield f"--gpu {word} names the same accelerator again: it is shown once."


def _disk(report: Report, unit: str) -> Iterator[str]:
    """A warning if the download exceeds the free disk space."""
    nbytes = report.download.nbytes
    if not nbytes or report.checkpoint.source == "local":
        return
    room = cache_room()
    if room is not None and room[1] is None:
        yield f"Warning: cannot download to {room[0]}: the folder cannot be created. Check HF_HOME."
    elif room is not None and room[1] is not None and room[1] < nbytes:
        need, free = format_bytes(nbytes, unit), format_bytes(room[1], unit)
        yield f"Warning: downloading {report.name} takes {need}, but the disk with {room[0]} has {free} free."


def free_room() -> int | None:
    """Free bytes on the disk for downloads; None if unknown."""
    room = cache_room()
    return room[1] if room is not None else None


def _lacking(report: Report) -> str:
    """The unknown parts of the total, and why."""
    return "; ".join(f"{group.replace('_', ' ')}: {reason}" for group, reason in report.estimate.unknown)


def _of(report: Report, verdict: str) -> list[Fit]:
    return [fit for fit in report.fits if fit.verdict == verdict]


def _refusals(report: Report) -> Iterator[str]:
    """Each refusal once, with the accelerators that it applies to."""
    about: dict[str, list[str]] = {}
    for fit in _of(report, "refused"):
        about.setdefault(fit.refused, []).append(machine_name(fit))
    for reason, names in about.items():
        yield f"{report.name} is refused on {' and on '.join(names)}: {reason}."


def _some(report: Report, unit: str) -> Iterator[str]:
    """Accelerators on which the model fits with only the lower end of their range."""
    for fit in _of(report, "unknown"):
        if fit.estimate is None or not by_some(fit):
            continue
        low, high, room = (format_bytes(size, unit) for size in (fit.estimate.low, fit.estimate.total, fit.usable))
        case = in_which_case(fit.estimate)
        yield f"{report.name} fits on {machine_name(fit)} {case} only: {low} to {high} of {room}."


def _tight(report: Report, unit: str) -> Iterator[str]:
    """Tight fits, which count as fits."""
    for fit in _of(report, "tight"):
        yield f"{report.name} fits on {fit.gpu.name}, but {tight_words(fit, unit)}."


def _otherwise(reports: Sequence[Report]) -> Iterator[str]:
    """Remarks that a report is for something other than requested, each once, with the models that it applies to."""
    about: dict[str, list[str]] = {}
    for report in reports:
        for note in report.notes:
            if isinstance(note, Otherwise):
                about.setdefault(note, []).append(report.name)
    for sentence, models in about.items():
        more = f" and {len(models) - _NAMED} more" if len(models) > _NAMED else ""
        yield sentence if len(models) == len(reports) else f"{', '.join(models[:_NAMED])}{more}: {sentence}"
