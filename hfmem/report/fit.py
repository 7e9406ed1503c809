"""Accelerators in reports: a bar of the memory, what fits, what would help, and models × accelerators as a matrix.

A bar's letters say what its colours would, so that it reads without any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from tabulate import tabulate

from hfmem.estimator.values import GROUPS, Estimate, Group, Rank
from hfmem.report.values import GROUP_NAMES, Report
from hfmem.units import format_bytes

if TYPE_CHECKING:
    from hfmem.advice.fit import Fit
    from hfmem.advice.inference import Advice
    from hfmem.hardware.table import Accelerator, Instance

__all__ = ["advice_lines", "fit_dict", "fit_lines", "list_gpus", "rank_lines", "serving_lines", "to_matrix"]

_LETTERS: Final[dict[Group, str]] = {
    "weights": "W",
    "kv_cache": "K",
    "activations": "A",
    "overhead": "O",
    "master_weights": "M",
    "gradients": "G",
    "optimizer": "S",
    "temporary": "T",
}
_BAR: Final = 40


def fit_lines(fits: Sequence[Fit], unit: str) -> Iterator[str]:
    """A bar a machine, and what fits on it."""
    width = max((len(_name(fit)) for fit in fits), default=0)
    shown: list[Group] = []
    for fit in fits:
        if fit.estimate is None:
            yield f"{_name(fit):{width}}  not possible: {fit.refused}{_instead(fit)}"
            continue
        shown += [group for group in GROUPS if fit.estimate.group(group) and group not in shown]
        yield f"{_name(fit):{width}}  [{_bar(fit.estimate, fit.usable)}] {_verdict(fit, unit)}"
        if answers := _answers(fit):
            yield f"{'':{width}}  {answers}"
    if shown:
        legend = "  ".join(f"{_LETTERS[group]} {GROUP_NAMES[group]}" for group in GROUPS if group in shown)
        yield f"{'':{width}}  {legend}  . free  ! too much"


def _name(fit: Fit) -> str:
    there, used = fit.machine.count or 0, fit.parallel.gpus
    if there > used:
        return f"{used} of {there} × {fit.gpu.name}"
    return f"{used} × {fit.gpu.name}" if used > 1 else fit.gpu.name


def _bar(estimate: Estimate, usable: int) -> str:
    """Cells in proportion to what one accelerator can use; what is beyond that is shown as `!`."""
    whole = max(estimate.total, usable, 1)
    cells = ""
    done = 0
    for group in GROUPS:
        done += estimate.group(group) or 0
        cells += _LETTERS[group] * (round(done * _BAR / whole) - len(cells))
    cells = cells.ljust(_BAR, ".")
    if estimate.total <= usable:
        return cells
    limit = min(_BAR - 1, usable * _BAR // whole)
    return cells[:limit] + "!" * (_BAR - limit)


def _verdict(fit: Fit, unit: str) -> str:
    total = fit.estimate.total if fit.estimate else 0
    sign = "≥ " if fit.estimate and fit.estimate.is_lower_bound else ""
    size = f"{sign}{format_bytes(total, unit, label=False)} of {format_bytes(fit.usable, unit)}"
    if fit.refused:
        return f"{size}: refused, {fit.refused}"
    if fit.fits is None:
        return f"{size}: {'fits by some recipes' if fit.estimate and fit.estimate.spared else 'unknown'}"
    return f"{size}: fits" if fit.fits else f"{size}: does not fit"


def _answers(fit: Fit) -> str:
    parts = []
    if fit.max_batch:
        parts.append(f"batch up to {fit.max_batch:,}")
    if fit.max_seq:
        parts.append(f"context up to {fit.max_seq:,}")
    if fit.gpus_needed and fit.fits is False:
        parts.append(f"{fit.gpus_needed} of them would hold it")
    return "; ".join(parts)


def _instead(fit: Fit) -> str:
    return f"; {fit.gpus_needed} would hold it" if fit.gpus_needed else ""


def advice_lines(advice: Sequence[Advice], unit: str) -> Iterator[str]:
    """What would help, with the total then."""
    if not advice:
        return
    yield "what would help"
    width = max(len(row.option) for row in advice)
    for row in advice:
        verdict = "fits" if row.fits else "not enough alone"
        yield f"  {row.option:{width}}  {format_bytes(row.total, unit):>12}  {verdict}"


def serving_lines(report: Report, unit: str) -> Iterator[str]:
    """What a serving engine has left, and how to start it."""
    serving = report.estimate.serving
    if serving is None:
        return
    if serving.kv_pool <= 0:
        yield f"KV pool: none, {format_bytes(-serving.kv_pool, unit)} are missing"
    elif serving.kv_tokens is not None and serving.max_concurrency is not None:
        yield (
            f"KV pool {format_bytes(serving.kv_pool, unit)}: {serving.kv_tokens:,} tokens, "
            f"{serving.max_concurrency:,.2f} requests of {report.scenario.seq:,} tokens at once"
        )
    yield serving.command


def rank_lines(report: Report, unit: str) -> list[str]:
    """A row a distinct rank, where there are several accelerators."""
    estimate = report.estimate
    if not estimate.ranks:
        return []
    groups = [group for group in GROUPS if any(estimate.group(group, rank) for rank in estimate.ranks)]
    rows = [
        [_ranks(rank), *(format_bytes(estimate.group(group, rank) or 0, unit, label=False) for group in groups)]
        + [format_bytes(rank.total, unit, label=False)]
        for rank in estimate.ranks
    ]
    headers = [f"ranks ({unit})", *(GROUP_NAMES[group] for group in groups), "total"]
    alignment = ["left"] + ["right"] * (len(groups) + 1)
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=alignment).splitlines()


def _ranks(rank: Rank) -> str:
    """Numbers of ranks, runs of them as `0-3`."""
    runs: list[list[int]] = []
    for number in rank.ranks:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs]
    return ", ".join(shown[:4]) + (f", … ({len(rank.ranks)})" if len(shown) > 4 else "")


_MATRIX_WIDTH: Final = 100


def to_matrix(reports: Sequence[Report], unit: str, width: int | None) -> str:
    """Models down, accelerators across: what stays free, or how many are needed; in blocks that fit the width."""
    names = list(dict.fromkeys(_name(fit) for report in reports for fit in report.fits or ()))
    room = min(width or _MATRIX_WIDTH, _MATRIX_WIDTH)
    blocks: list[str] = []
    while names:
        count = len(names)
        while count > 1 and _widest(_block(reports, names[:count], unit)) > room:
            count -= 1
        blocks.append(_block(reports, names[:count], unit))
        names = names[count:]
    legend = f"free {unit} on each; 'no' has what is missing, and how many would hold it"
    return "\n\n".join([*blocks, legend])


def _widest(text: str) -> int:
    return max(map(len, text.splitlines()))


def _block(reports: Sequence[Report], names: Sequence[str], unit: str) -> str:
    rows = []
    for report in reports:
        by_name = {_name(fit): fit for fit in report.fits or ()}
        total = format_bytes(report.estimate.total, unit, label=False)
        cells = [_cell(by_name.get(name), unit) for name in names]
        rows.append([report.checkpoint.ref.model_id, ("≥ " if report.estimate.is_lower_bound else "") + total, *cells])
    headers = ["model", f"total\n({unit})", *(f"{name}\n{_size(reports, name, unit)}" for name in names)]
    alignment = ["left", "right"] + ["right"] * len(names)
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=alignment)


def _size(reports: Sequence[Report], name: str, unit: str) -> str:
    """Usable bytes of a column's accelerator."""
    fits = [fit for report in reports for fit in report.fits or () if _name(fit) == name]
    return f"({format_bytes(fits[0].gpu.memory, unit, label=False)})" if fits else ""


def _cell(fit: Fit | None, unit: str) -> str:
    if fit is None or fit.headroom is None:
        return "refused" if fit else ""
    if fit.fits is None:
        return "unknown"
    free = format_bytes(abs(fit.headroom), unit, label=False)
    if fit.fits:
        return f"fits, {free}"
    return f"no, {free}" + (f" (×{fit.gpus_needed})" if fit.gpus_needed else "")


def list_gpus(rows: Sequence[Accelerator], instances: Sequence[Instance], unit: str) -> str:
    """The table of accelerators, and the instances of clouds with what they hold."""
    cards = [
        [
            row.name,
            format_bytes(row.memory, unit, label=False),
            row.kind,
            row.vendor,
            row.basis,
            ", ".join(row.aliases[:2]),
        ]
        for row in rows
    ]
    clouds = [[row.name, f"{row.count} × {row.gpu}"] for row in instances]
    headers = ["name", f"usable ({unit})", "kind", "maker", "basis", "also"]
    alignment = ["left", "right", "left", "left", "left", "left"]
    first = tabulate(cards, headers=headers, disable_numparse=True, colalign=alignment)
    return f"{first}\n\n{tabulate(clouds, headers=['instance', 'holds'], disable_numparse=True)}"


def fit_dict(fit: Fit) -> dict[str, Any]:
    """One row of the JSON contract's `fit`."""
    return {
        "gpu": fit.gpu.name,
        "instance": fit.machine.instance or None,
        "gpus": fit.parallel.gpus,
        "memory": fit.gpu.memory,
        "usable": fit.usable,
        "total": fit.estimate.total if fit.estimate else None,
        "fits": fit.fits,
        "headroom": fit.headroom,
        "max_batch": fit.max_batch,
        "max_seq": fit.max_seq,
        "gpus_needed": fit.gpus_needed,
        "refused": fit.refused or None,
        "memory_basis": fit.gpu.basis,
        "memory_source": fit.gpu.source,
    }
