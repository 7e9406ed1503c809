"""The card for a single model: what it is, whether it fits, the memory by group, how much more there is room for, what
would help, and notes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from hfmem.estimator.values import GROUPS, Estimate, Group, Term, total_of
from hfmem.options.otherwise import Detail
from hfmem.report.escapes import line
from hfmem.report.fit import (
    command_block,
    fit_lines,
    help_lines,
    limit_lines,
    pool_lines,
    rank_lines,
    refusal_lines,
    speed_lines,
)
from hfmem.report.grid import grid
from hfmem.report.heading import about, asked, chain, origin, shape
from hfmem.report.placement import placement_lines
from hfmem.report.sentences import on_what
from hfmem.report.values import GROUP_NAMES, Report
from hfmem.report.width import fold
from hfmem.units import format_bytes

if TYPE_CHECKING:
    from hfmem.estimator.serving import Offload

__all__ = ["to_card", "to_explanation"]

_CERTAINTIES = ("exact", "derived", "measured", "typical", "unknown")
_WIDEST = 100
_NARROWEST = 32


def to_card(report: Report, unit: str, width: int | None, *, explain: bool = False) -> str:
    """The card, with long lines folded at `width`: what decides, in the order in which a person asks.

    With `explain`, it has the chain of origins and the remarks that change no decision too.
    """
    folded = max(_NARROWEST, min(width or _WIDEST, _WIDEST))
    blocks = (
        list(_heading(report, explain=explain)),
        _choices(report, unit, width),
        [*fit_lines(report.fits, unit, width), *refusal_lines(report, width)],
        _components(report, unit, width),
        _parts(report, unit, folded),
        rank_lines(report, unit, width),
        placement_lines(report.estimate.placement, unit, width),
        [*limit_lines(report.fits, width), *pool_lines(report, unit), *_growth(report, unit)],
        _training(report, unit),
        list(help_lines(report, unit)),
        list(command_block(report, width)),
        list(_trace(report, unit)),
        _against(report, unit),
        [
            *_beside(report, unit),
            *(fold(f"- {note}", folded) for note in _notes(report, explain=explain)),
            *([] if explain else [_more(report)]),
        ],
    )
    long = ("facts", "full training", "LoRA", "QLoRA", "refused at the start", "while loading", "more: ")
    shown = [
        "\n".join(fold(line, folded) if width is not None or line.startswith(long) else line for line in block)
        for block in blocks
        if block
    ]
    return "\n\n".join(shown).rstrip()


def _notes(report: Report, *, explain: bool) -> list[str]:
    """The remarks that change a decision, or all."""
    return [note for note in report.notes if explain or not isinstance(note, Detail)]


def _more(report: Report) -> str:
    """What the card leaves out, and the option that shows it."""
    left = len(report.notes) - len(_notes(report, explain=False))
    notes = f" and {left} more {'note' if left == 1 else 'notes'}" if left else ""
    fits = "" if report.fits or report.scenario.method == "textbook" else "--gpu NAME for whether it fits; "
    return f"more: {fits}--explain for the arithmetic, the sources{notes}"


def to_explanation(report: Report, unit: str, width: int | None) -> str:
    """Every term with its arithmetic and source, and the textbook's values."""
    folded = max(_NARROWEST, min(width or _WIDEST, _WIDEST))
    sources = list(dict.fromkeys(term.source for term in report.estimate.terms))
    lines = ["Terms"]
    for group in GROUPS:
        terms = [term for term in report.estimate.terms if term.group == group]
        if terms:
            lines.append(f"  {GROUP_NAMES[group]}: {sum(term.nbytes for term in terms):,} B")
            lines += [line for term in terms for line in _explain(term, sources.index(term.source) + 1, unit, folded)]
    lines += ["", "Sources", *(fold(f"  [{number}] {source}", folded) for number, source in enumerate(sources, 1))]
    if report.estimate.training is not None:
        lines += ["", fold(f"nvidia-smi's range: {report.estimate.training.reserved_source}.", folded)]
    if speeds := [fold(line, folded) for line in speed_lines(report.fits, unit)]:
        lines += ["", "Speed, by memory alone, without speculative decoding", *(f"  {line}" for line in speeds)]
    text = "\n".join([*lines, *_textbook(report, unit, folded)])
    return text if width is None else "\n".join(fold(line, folded) for line in text.splitlines())


def _heading(report: Report, *, explain: bool) -> Iterator[str]:
    checkpoint = report.checkpoint
    yield line(f"{checkpoint.ref.model_id}  ({' · '.join(about(report))})")
    if words := shape(report):
        yield words
    yield asked(report)
    yield f"facts: {chain(checkpoint) if explain else origin(checkpoint)}"


def _training(report: Report, unit: str) -> list[str]:
    """The phases and other facts of training."""
    if report.estimate.training is None:
        return []
    from hfmem.report.training import to_lines  # for runs that train only

    return to_lines(report, unit)


def _parts(report: Report, unit: str, width: int) -> list[str]:
    """The total, and the parts that it is the sum of."""
    estimate = report.estimate
    sign = "≥ " if estimate.is_lower_bound else ""
    low, high = format_bytes(estimate.low, unit), format_bytes(estimate.total, unit)
    range_ = f"{low} to {high}, depending on {on_what(estimate)}" if low != high else ""
    rows = [["total", sign + high, "partly unknown" if sign else range_]]
    rows += [
        [GROUP_NAMES[group], _size(estimate.group(group), unit), _certainty(estimate, group)]
        for group in GROUPS
        if estimate.group(group) != 0
    ]
    names, sizes = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [f"{name:<{names}}  {size:>{sizes}}  {remark}".rstrip() for name, size, remark in rows]
    return [lines[0], "-" * min(width, max(map(len, lines))), *lines[1:]]


def _growth(report: Report, unit: str) -> Iterator[str]:
    """What a longer context takes."""
    estimate = report.estimate
    if estimate.kv_cache_per_token:
        fixed = (
            f", plus {format_bytes(estimate.kv_cache_fixed, unit)} that does not grow"
            if estimate.kv_cache_fixed
            else ""
        )
        each = " per GPU" if estimate.ranks else ""
        yield f"each additional token per sequence: {estimate.kv_cache_per_token:,} B of cache{each}{fixed}"
    if pieces := estimate.in_pieces:
        total = format_bytes(pieces.total, unit)
        yield f"in chunks of {pieces.tokens:,} tokens (--prefill-chunk {pieces.tokens}): {total}"


def _beside(report: Report, unit: str) -> Iterator[str]:
    estimate, download = report.estimate, report.download
    loading = estimate.loading
    if (offload := _offload(report)) is not None:
        yield f"host memory: {format_bytes(offload.host, unit)} with {offload.option}"
    elif estimate.host:
        parts = ", ".join(f"{term.name} {format_bytes(term.nbytes, unit)}" for term in estimate.host)
        yield f"host memory: {format_bytes(total_of(estimate.host), unit)} ({parts})"
    if loading is not None and loading.host:
        yield f"while loading: {format_bytes(loading.host, unit)} of host memory ({loading.how.split(';')[0]})"
    if loading is not None and loading.gpu is not None and loading.gpu > estimate.total:
        yield f"while loading: {format_bytes(loading.gpu, unit)} on the GPU, briefly"
    if report.checkpoint.source != "local" and download.nbytes is not None:
        files = f" in {download.files} file{'' if download.files == 1 else 's'}" if download.files else ""
        yield f"download: {format_bytes(download.nbytes, unit)}{files}"


def _offload(report: Report) -> Offload | None:
    """What the launch line leaves to the host, where it is not of the whole model."""
    fit = next((fit for fit in report.fits if fit.machine.there), None)
    found, serving = None if fit is None else fit.offload, report.estimate.serving
    shown = found is not None and not found.whole and serving is not None and serving.command == found.command
    return found if shown else None


def _trace(report: Report, unit: str) -> Iterator[str]:
    """The traced peak, with the estimate of what is allocated."""
    trace = report.trace
    if trace is None:
        return
    yield f"traced on {trace.subject} without weights ({trace.source}, {trace.seconds:g} s); peak phase: {trace.phase}"
    groups = [group for group in GROUPS if group != "overhead"]
    # small differences are counters and the loss
    shown = [group for group in groups if trace.groups.get(group, 0) >= 1024 or report.beside(group)]
    rows = [
        [GROUP_NAMES[group], format_bytes(trace.groups.get(group, 0), unit), _size(report.beside(group), unit)]
        for group in shown
    ]
    apart = f"{report.beside_peak / trace.peak - 1:+.1%}" if trace.peak else ""
    rows.append(["peak", format_bytes(trace.peak, unit), f"{format_bytes(report.beside_peak, unit)} ({apart})"])
    yield from grid(rows, ["", "traced", "estimated"], ("left", "right", "left")).splitlines()


def _size(nbytes: int | None, unit: str) -> str:
    return "unknown" if nbytes is None else format_bytes(nbytes, unit)


def _certainty(estimate: Estimate, group: Group) -> str:
    """The weakest certainty among a group's terms."""
    found = [term.certainty for term in estimate.terms if term.group == group]
    if any(name == group for name, _ in estimate.unknown):
        return "unknown" if not found else "partly unknown"
    return max(found, key=_CERTAINTIES.index) if found else ""


def _choices(report: Report, unit: str, width: int | None) -> list[str]:
    """The quantisations of a repository that has several."""
    if not report.choices:
        return []
    from hfmem.report.choices import choice_lines

    return list(choice_lines(report.choices, unit, width))


def _components(report: Report, unit: str, width: int | None) -> list[str]:
    """The components of a pipeline."""
    if report.model.pipeline is None:
        return []
    from hfmem.report.components import component_lines

    return component_lines(report, unit, width)


def _against(report: Report, unit: str) -> list[str]:
    """What a real run printed, beside the estimate."""
    if not report.against:
        return []
    from hfmem.report.against import against_lines

    return list(against_lines(report.against, unit))


def _explain(term: Term, source: int, unit: str, width: int) -> Iterator[str]:
    yield f"    {line(term.name)}: {format_bytes(term.nbytes, unit)}, {term.certainty} [{source}]"
    yield textwrap.fill(f"= {term.how}", width, initial_indent=" " * 6, subsequent_indent=" " * 8)


def _textbook(report: Report, unit: str, width: int) -> list[str]:
    """The result of the original article's formulas for the same scenario."""
    if report.scenario.method == "textbook" or len(report.models) > 1 or report.scenario.dtype is None:
        return []
    if report.model.lengthless:
        return []
    from hfmem.estimator import textbook  # for --explain only

    if report.scenario.dtype not in textbook.TEXTBOOK_PRECISIONS:
        return ["", fold(f"The textbook has no precision for {report.scenario.dtype}.", width)]
    kind = "sgd" if (report.scenario.optimizer or "").startswith("sgd") else "adam"
    book = textbook.estimate(report.model, replace(report.scenario, optimizer=kind))
    groups: tuple[Group, ...] = ("weights", "kv_cache", "activations")
    if report.scenario.train:
        groups = (*groups, "gradients", "optimizer")
    rows = [[GROUP_NAMES[g], _size(report.estimate.group(g), unit), _size(book.group(g), unit)] for g in groups]
    table = grid(rows, ["", "here", "textbook"], ("left", "right", "right"))
    return [
        "",
        "Compared with the textbook (alpha 34, beta 5 for eager attention; 2 and 0 for sdpa and flash)",
        table,
    ] + [fold(f"- {note}", width) for note in book.notes]
