"""Verdicts as sentences, the same in the card, on the page and in notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from hfmem.estimator.values import Estimate
from hfmem.report.values import Report
from hfmem.units import format_bytes

if TYPE_CHECKING:
    from hfmem.advice.values import Fit

__all__ = ["in_which_case", "lacking", "limits", "machine_words", "memory_words", "on_what", "sentence"]

_WORDS: Final = {
    "fits": "Fits on",
    "tight": "Fits, but tight, on",
    "no": "Does not fit on",
    "refused": "Refused on",
    "unknown": "The fit is unknown on",
}


def machine_words(fit: Fit) -> str:
    """An accelerator with the number that is used: `2 of 4 × L4`, `2 × L4`, `H100 80GB`."""
    there, used = fit.machine.count or 0, fit.parallel.gpus
    if there > used:
        return f"{used} of {there} × {fit.gpu.name}"
    return f"{used} × {fit.gpu.name}" if used > 1 else fit.gpu.name


def sentence(fit: Fit, unit: str) -> str:
    """What a person asks first: whether it fits, how much is free or missing, how long a context there is room for."""
    parts = [part for part in (_room(fit, unit), *limits(fit)) if part]
    if fit.verdict == "refused":
        parts = [fit.refused, *(part for part in parts if part.startswith("needs"))]
    elif not fit.machine.there:
        parts = [fit.gpu.source]
    told = f"{_WORDS[fit.verdict]} {machine_words(fit)}"
    return f"{told}: {', '.join(parts)}." if parts else f"{told}."


def _room(fit: Fit, unit: str) -> str:
    """The free or the missing memory; both ends where the total is a range."""
    if fit.headroom is None or fit.estimate is None:
        return ""
    free = fit.headroom
    if fit.verdict == "unknown" and fit.estimate.spared and not fit.estimate.is_lower_bound:
        low, high = format_bytes(fit.estimate.low, unit), format_bytes(fit.estimate.total, unit)
        return f"{low} to {high} of {format_bytes(fit.usable, unit)}, depending on {on_what(fit.estimate)}"
    if free < 0:
        least = "at least " if fit.estimate.is_lower_bound else ""
        return f"{least}{format_bytes(-free, unit)} missing"
    most = "at most " if fit.estimate.is_lower_bound else ""
    return f"{most}{format_bytes(free, unit)} free"


def on_what(estimate: Estimate) -> str:
    """What decides where in its range a total lies."""
    if estimate.training is not None:
        return "how much is paged out to the host"
    return "how cuDNN runs convolutions" if estimate.phases or estimate.convolved else "the recipe"


def in_which_case(estimate: Estimate | None) -> str:
    """When a total is at the lower end of its range."""
    if estimate is not None and estimate.training is not None:
        return "if states are paged out"
    if estimate is not None and (estimate.phases or estimate.convolved):
        return "with some ways to run convolutions"
    return "with some recipes"


def limits(fit: Fit) -> Iterator[str]:
    """The longest context, the largest batch, and the accelerators that are needed."""
    if fit.max_seq:
        yield f"longest context {fit.max_seq:,}"
    if fit.max_batch:
        yield f"largest batch {fit.max_batch:,}"
    for name, size in fit.largest:
        yield f"largest {name} {size:,}"
    if fit.gpus_needed and fit.fits is False:
        yield f"needs {fit.gpus_needed}"


def lacking(report: Report) -> str:
    """The unknown parts of the total, and why."""
    return "; ".join(f"{group.replace('_', ' ')}: {reason}" for group, reason in report.estimate.unknown)


def memory_words(report: Report, unit: str) -> str:
    """The total in words: `22.58 GiB`, `at least 22.58 GiB`, `20.00 to 22.58 GiB`, or that it is not known."""
    estimate = report.estimate
    if estimate.known_total is None:
        return "an unknown amount"
    total = format_bytes(estimate.total, unit)
    if estimate.spared:
        return f"{format_bytes(estimate.low, unit, label=False)} to {total}"
    return f"at least {total}" if estimate.is_lower_bound else total
