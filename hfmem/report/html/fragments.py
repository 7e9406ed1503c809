"""One report as a fragment of HTML: all of it, or the few lines that a notebook shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hfmem.advice.values import Fit
from hfmem.estimator.values import GROUPS, Estimate, Group, Term
from hfmem.report.components import HEADINGS, component_cells
from hfmem.report.heading import about, asked, chain, origin, shape
from hfmem.report.html.bars import bar, key, legend, parts
from hfmem.report.html.style import STYLE
from hfmem.report.html.tags import element, table, text
from hfmem.report.sentences import machine_words, memory_words, sentence
from hfmem.report.values import GROUP_NAMES, Report
from hfmem.units import format_bytes

__all__ = ["fits_fragment", "fragment", "helping", "summary", "verdicts", "wrapped"]


def wrapped(*inner: str, style: bool = True) -> str:
    """Markup as a fragment that stands alone, with its style unless the page around it has it."""
    return element("div", element("style", STYLE) if style else "", *inner, class_="hfmem")


def fragment(report: Report, unit: str = "GiB", *, title: bool = True, terms: bool = True, style: bool = True) -> str:
    """Everything that a report says, without scripts.

    Args:
        report: the report.
        unit: `GiB` or `GB`.
        title: whether it begins with the model's name.
        terms: whether it has the arithmetic of every term.
        style: whether it carries its style sheet; once on a page is enough.
    """
    sections = [
        *(_heading(report) if title else ()),
        *verdicts(report, unit),
        *_components(report, unit),
        *_parts(report, unit),
        *helping(report, unit),
        *_phases(report, unit),
        *_launch(report),
        *(_terms(report, unit) if terms else ()),
        *_notes(report),
    ]
    return wrapped(*sections, style=style)


def summary(report: Report, unit: str = "GiB") -> str:
    """The model, what decides, and the bars."""
    return wrapped(*_heading(report), *verdicts(report, unit), legend([group for group, _ in parts(report.estimate)]))


def fits_fragment(fits: Sequence[Fit], unit: str = "GiB") -> str:
    """Whether a model fits on some accelerators."""
    shown = [group for group in GROUPS if any(fit.estimate and fit.estimate.group(group) for fit in fits)]
    return wrapped(*(line for fit in fits for line in _fit(fit, unit)), legend(shown))


def _heading(report: Report) -> Iterator[str]:
    yield element("h2", text(report.name))
    yield element("p", text(" · ".join([*about(report), shape(report)]).rstrip(" ·")), class_="dim")
    yield element("p", text(f"{asked(report)}. Facts: {origin(report.checkpoint)}."), class_="dim")


def verdicts(report: Report, unit: str = "GiB") -> Iterator[str]:
    """A sentence and a bar for each accelerator; for none, of the total."""
    for fit in report.fits:
        yield from _fit(fit, unit)
    if not report.fits:
        yield element("p", text(f"Needs {memory_words(report, unit)}."), class_="said")
        if report.estimate.known_total is not None:
            yield element("div", bar(parts(report.estimate), unit), class_="bar")


def _fit(fit: Fit, unit: str) -> Iterator[str]:
    yield element("p", text(sentence(fit, unit)), class_="said")
    if fit.estimate is None:
        return
    of = (
        element("span", text(f"{machine_words(fit)}: {_size(fit.estimate, unit)}")),
        element("span", text(f"{format_bytes(fit.usable, unit)} usable")),
    )
    marked = element("div", *of, class_="of dim")
    yield element("div", bar(parts(fit.estimate), unit, fit.usable), marked, class_="bar")


def _size(estimate: Estimate, unit: str) -> str:
    return ("≥ " if estimate.is_lower_bound else "") + format_bytes(estimate.total, unit)


def _components(report: Report, unit: str) -> Iterator[str]:
    """What a pipeline consists of."""
    rows = [[text(cell) for cell in row] for row in component_cells(report, unit)]
    if rows:
        yield element("h3", "Components")
        yield table(HEADINGS, rows, right=(2, 4))


def _parts(report: Report, unit: str) -> Iterator[str]:
    """The total and its parts."""
    estimate = report.estimate
    rows = [
        [key(group) + text(GROUP_NAMES[group]), text(_known(estimate, group, unit))]
        for group in GROUPS
        if estimate.group(group) != 0
    ]
    rows.append([element("b", "total"), element("b", text(_size(estimate, unit)))])
    yield table((), rows, right=(1,))
    beside = list(_beside(report, unit))
    if beside:
        yield element("p", text("; ".join(beside) + "."), class_="dim")


def _known(estimate: Estimate, group: Group, unit: str) -> str:
    nbytes = estimate.group(group)
    return "unknown" if nbytes is None else format_bytes(nbytes, unit)


def _beside(report: Report, unit: str) -> Iterator[str]:
    """What else is worth knowing in a line."""
    if report.estimate.kv_cache_per_token:
        yield f"each additional token per sequence takes {report.estimate.kv_cache_per_token:,} B of cache"
    if report.checkpoint.source != "local" and report.download.nbytes is not None:
        yield f"download {format_bytes(report.download.nbytes, unit)}"


def helping(report: Report, unit: str = "GiB") -> Iterator[str]:
    """What would help, where something does not fit, or to train with less."""
    rows = [
        (
            row.option,
            row.total,
            _enough(row.fits, row.tight)
            + (f", {format_bytes(row.host, unit)} in the host's memory" if row.moved else ""),
        )
        for row in report.advice
    ]
    rows = rows or [(row.option, row.total, _enough(row.fits, row.tight)) for row in report.savings]
    if rows:
        yield element("h3", "What would help")
        shown = (
            [element("code", text(option)), text(format_bytes(size, unit)), text(fits)] for option, size, fits in rows
        )
        yield table(("option", "total", ""), shown, right=(1,))


def _enough(fits: bool | None, tight: bool) -> str:
    if fits is None:
        return ""
    return ("fits, but tight" if tight else "fits") if fits else "not enough alone"


def _phases(report: Report, unit: str) -> Iterator[str]:
    """The phases of a training step, on one scale."""
    estimate = report.estimate
    if not estimate.phases:
        return
    yield element("h3", "Phases of a step")
    whole = max(phase.total for phase in estimate.phases)
    for phase in estimate.phases:
        peak = ", the peak" if phase.name == estimate.peak_phase else ""
        words = element("div", text(f"{phase.name}: {format_bytes(phase.total, unit)}{peak}"), class_="dim")
        of = [(group, phase.group(group)) for group in GROUPS if phase.group(group)]
        yield element("div", words, bar(of, unit, whole=whole), class_="bar")


def _launch(report: Report) -> Iterator[str]:
    """The line that starts a server."""
    serving = report.estimate.serving
    if serving is not None and serving.command:
        yield element("h3", "Launch")
        yield element("pre", element("code", *(text(row) + "\n" for row in serving.command.splitlines())))


def _terms(report: Report, unit: str) -> Iterator[str]:
    """Every term with its arithmetic and its source."""
    estimate = report.estimate
    ordered = [term for group in GROUPS for term in estimate.terms if term.group == group]
    sources = list(dict.fromkeys(term.source for term in ordered))
    rows = (_term(term, unit, sources.index(term.source) + 1) for term in ordered)
    listed = table(("term", f"{unit}", "arithmetic", "certainty", "source"), rows, right=(1,))
    numbered = element("ol", *(element("li", text(source)) for source in sources), class_="how")
    yield element(
        "details",
        element("summary", "The arithmetic of every term"),
        listed,
        element("h3", "Sources"),
        numbered,
    )


def _term(term: Term, unit: str, source: int) -> list[str]:
    return [
        key(term.group) + text(term.name),
        text(format_bytes(term.nbytes, unit, label=False)),
        element("div", text(term.how), class_="how"),
        text(term.certainty),
        text(f"[{source}]"),
    ]


def _notes(report: Report) -> Iterator[str]:
    """All remarks, and where the facts are from."""
    told = element("p", text(f"Facts: {chain(report.checkpoint)}."), class_="dim")
    listed = element("ul", *(element("li", text(note)) for note in report.notes))
    yield element("details", element("summary", "Notes"), told, listed)
