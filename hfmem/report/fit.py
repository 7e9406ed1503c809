"""Accelerators in reports: a bar of the memory, what fits, advice, and a matrix of models × accelerators.

The parts of a bar are letters, which `hfmem.report.paint` puts on colours where a terminal has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from hfmem.estimator.values import GROUPS, Estimate, Group, Rank
from hfmem.report.escapes import line
from hfmem.report.grid import grid
from hfmem.report.sentences import in_which_case, machine_words
from hfmem.report.values import GROUP_NAMES, Report
from hfmem.report.width import command_lines, fold, items, left_out, narrowed, shortened, widest
from hfmem.units import format_bytes

if TYPE_CHECKING:
    from hfmem.advice.values import Advice, Fit, Speed
    from hfmem.estimator.serving import Offload, Serving
    from hfmem.hardware.values import Accelerator, Instance, Machine

__all__ = [
    "LETTERS",
    "by_some",
    "command_block",
    "fit_cell",
    "fit_dict",
    "fit_lines",
    "help_lines",
    "limit_lines",
    "list_gpus",
    "machine_name",
    "named_machine",
    "pool_lines",
    "rank_lines",
    "refusal_lines",
    "tight_words",
    "to_matrix",
]

LETTERS: Final[dict[Group, str]] = {
    "weights": "W",
    "kv_cache": "K",
    "activations": "A",
    "overhead": "O",
    "master_weights": "M",
    "gradients": "G",
    "optimizer": "S",
    "temporary": "T",
}
"""The letter of each group in bars."""
_BAR: Final = 40  # cells of a bar
_SHORTEST: Final = 10
_SHORTEST_NAME: Final = 12
_WIDEST: Final = 100


def fit_lines(fits: Sequence[Fit], unit: str, room: int | None = None) -> Iterator[str]:
    """A bar per machine, and what fits on it, in lines of at most `room` columns."""
    width = max((len(machine_words(fit)) for fit in fits), default=0)
    cells = _cells(fits, unit, width, room)
    shown: list[Group] = []
    for fit in fits:
        if fit.estimate is None:
            why = f"not possible: {fit.refused}{_instead(fit)}" if fit.refused else f"{fit.verdict}: {fit.gpu.source}"
            yield f"{machine_words(fit):{width}}  {why}"
            continue
        shown += [group for group in GROUPS if fit.estimate.group(group) and group not in shown]
        bar = f"{machine_words(fit):{width}}  [{_bar(fit.estimate, fit.usable, cells)}]"
        verdict = _verdict(fit, unit)
        if room is None or len(bar) + 1 + len(verdict) <= room:
            yield f"{bar} {verdict}"
        else:
            yield from (bar, f"{'':{width}}  {verdict}")
        for remark in _remarks(fit, unit):
            yield fold(f"{'':{width}}  {remark}", room or _WIDEST)
    if shown:
        legend = [f"{LETTERS[group]} {GROUP_NAMES[group]}" for group in GROUPS if group in shown]
        yield from items([*legend, ". free", "! too much"], width + 2, room)


def _cells(fits: Sequence[Fit], unit: str, name: int, room: int | None) -> int:
    """The length of bars: the rest of the line after names and verdicts, or after names only if that is too short."""
    if room is None:
        return _BAR
    beside = room - name - len("  [] ")
    verdicts = [len(_verdict(fit, unit)) for fit in fits if fit.estimate is not None]
    with_verdict = beside - max((length for length in verdicts if length <= room // 2), default=0)
    return max(_SHORTEST, min(_BAR, with_verdict if with_verdict >= _SHORTEST else beside))


def _bar(estimate: Estimate, usable: int, length: int) -> str:
    """Cells in proportion to the usable memory of one accelerator; an excess is shown as `!`."""
    whole = max(estimate.total, usable, 1)
    cells = ""
    done = 0
    for group in GROUPS:
        done += estimate.group(group) or 0
        cells += LETTERS[group] * (round(done * length / whole) - len(cells))
    cells = cells.ljust(length, ".")
    if estimate.total <= usable:
        return cells
    limit = min(length - 1, usable * length // whole)
    return cells[:limit] + "!" * (length - limit)


def _verdict(fit: Fit, unit: str) -> str:
    total = fit.estimate.total if fit.estimate else 0
    sign = "≥ " if fit.estimate and fit.estimate.is_lower_bound else ""
    size = f"{sign}{format_bytes(total, unit, label=False)} of {format_bytes(fit.usable, unit)}"
    some = f", fits {in_which_case(fit.estimate)}" if fit.verdict == "unknown" and by_some(fit) else ""
    return f"{size}: {_WORDS.get(fit.verdict, fit.verdict)}{some}"


_WORDS: Final = {"tight": "fits, but tight", "no": "does not fit"}
"""Verdicts in sentences, if they differ from the word itself."""


def by_some(fit: Fit) -> bool:
    """Whether it fits with some of the recipes that the requested quantisation may stand for, but not with the one that
    leaves most unquantised."""
    return fit.estimate is not None and bool(fit.estimate.spared) and not fit.estimate.is_lower_bound


def _remarks(fit: Fit, unit: str) -> Iterator[str]:
    """The reasons for a verdict: reserved memory, a refusal, the margin."""
    if fit.reserve:
        yield f"{format_bytes(fit.reserve, unit)} of {format_bytes(fit.gpu.memory, unit)} reserved for other programs"
    if fit.refused and not (fit.estimate and fit.estimate.serving):
        yield f"refused: {fit.refused}"
    if fit.tight:
        yield tight_words(fit, unit)
    if fit.offload is not None and not fit.offload.whole:
        yield _offload_words(fit.offload, unit)


def _offload_words(offload: Offload, unit: str) -> str:
    """How much of a model an accelerator takes, and what the host holds then."""
    part = f"{offload.layers} of {offload.of} layers"
    if offload.experts_on_host:
        part = f"all layers but the experts of {offload.experts_on_host}"
    there, host = format_bytes(offload.total, unit), format_bytes(offload.host, unit)
    if not offload.held:
        room = format_bytes(offload.room or 0, unit)
        return f"{part} would fit ({there}), but {host} remain for the host, whose memory is {room}"
    return f"fits with {part} ({there}), {host} in the host's memory: {offload.option}"


def tight_words(fit: Fit, unit: str) -> str:
    """Why a fit is tight."""
    left, loading = fit.headroom or 0, fit.estimate.loading if fit.estimate else None
    if fit.margin is None or left >= fit.margin.nbytes:
        peak = (loading.gpu if loading else None) or 0
        return f"tight: {format_bytes(peak, unit)} may be needed briefly while loading"
    kept = format_bytes(fit.margin.nbytes, unit)
    return f"tight: {format_bytes(left, unit)} free, {kept} recommended: {fit.margin.why}"


def limit_lines(fits: Sequence[Fit], room: int | None = None) -> Iterator[str]:
    """How long a context and how large a batch each machine has room for, and how many of it are needed."""
    rows = [(f"on {machine_words(fit)}:", "; ".join(_answers(fit))) for fit in fits if fit.estimate is not None]
    width = max((len(name) for name, answers in rows if answers), default=0)
    for name, answers in rows:
        if answers:
            yield fold(f"{name:{width}} {answers}", room or _WIDEST)


def _answers(fit: Fit) -> Iterator[str]:
    if fit.max_seq:
        yield f"context up to {fit.max_seq:,}"
    if fit.max_batch:
        yield f"batch up to {fit.max_batch:,}"
    yield from largest_words(fit, "up to")
    if fit.gpus_needed and fit.fits is False:
        yield f"needs {fit.gpus_needed}"


def largest_words(fit: Fit, words: str) -> Iterator[str]:
    """The largest sizes of what a pipeline makes."""
    found = dict(fit.largest)
    if "width" in found:
        yield f"images {words} {found['width']:,} × {found['height']:,}"
    if "frames" in found:
        yield f"{words} {found['frames']:,} frames"


def _instead(fit: Fit) -> str:
    return f"; needs {fit.gpus_needed}" if fit.gpus_needed else ""


def help_lines(report: Report, unit: str) -> Iterator[str]:
    """What would help a model that does not fit, or to train with less; each with the resulting total."""
    rows = [(row.option, row.total, _enough(row.fits, row.tight) + _moved(row, unit)) for row in report.advice]
    for saving in report.savings if not rows else ():
        verdict = _enough(saving.fits, saving.tight)
        rows.append((saving.option, saving.total, f"{verdict}: {saving.what}" if verdict else saving.what))
    if rows:
        yield "what would help"
    sizes = [format_bytes(total, unit) for _, total, _ in rows]
    width, size = max(map(len, (row[0] for row in rows)), default=0), max(map(len, sizes), default=0)
    for (option, _, words), total in zip(rows, sizes, strict=True):
        yield f"  {option:{width}}  {total:>{size}}  {words}"


def _moved(row: Advice, unit: str) -> str:
    """What the host's memory takes over."""
    return f", {format_bytes(row.host, unit)} in the host's memory" if row.moved else ""


def _enough(fits: bool | None, tight: bool) -> str:
    if fits is None:
        return ""
    return ("fits, but tight" if tight else "fits") if fits else "not enough alone"


def refusal_lines(report: Report, room: int | None = None) -> Iterator[str]:
    """Why the engine would not start."""
    serving = report.estimate.serving
    if serving is not None and serving.refused:
        yield fold(f"refused at the start: {serving.refused}", room or _WIDEST)


def pool_lines(report: Report, unit: str) -> Iterator[str]:
    """A serving engine's KV cache pool."""
    serving = report.estimate.serving
    if serving is None:
        return
    if serving.kv_pool is None:
        pass
    elif serving.kv_pool <= 0 and not serving.refused and not report.estimate.refused_by_most:
        yield f"KV pool: none, {format_bytes(-serving.kv_pool, unit)} short"
    elif serving.kv_pool > 0 and serving.kv_tokens is not None and serving.max_concurrency is not None:
        yield (
            f"KV pool {format_bytes(serving.kv_pool, unit)}: {serving.kv_tokens:,} tokens, "
            f"{serving.max_concurrency:,.2f} requests of {report.scenario.seq:,} tokens at once"
        )
        if serving.kv_blocks is not None and serving.blocks_per_request is not None:
            yield f"  in {serving.kv_blocks:,} blocks, {serving.blocks_per_request:,} for such a request"
    yield from _beside_the_pool(serving)


def command_block(report: Report, room: int | None = None) -> Iterator[str]:
    """The line that starts a server, or why there is none."""
    serving = report.estimate.serving
    if serving is None:
        return
    if serving.lineless and not serving.refused:
        yield fold(f"No launch command: {serving.lineless}", room or _WIDEST)
    if serving.command is not None:
        yield from command_lines(serving.command, room)


def _beside_the_pool(serving: Serving) -> Iterator[str]:
    """Requests of a mix, and the least memory of a server whose model keeps no cache."""
    if serving.refused:
        return
    if (mix := serving.mix) is not None:
        limit = ", the most that the engine runs at once" if mix.limited else ""
        yield (
            f"  of the mix: {mix.on_average:,.1f} requests at once on average{limit}, {mix.at_full_length:,.1f} if all "
            f"have their whole answer"
        )
    if serving.least_utilization is not None and serving.kv_tokens is None:
        yield f"{serving.least_utilization:g} of the accelerator's memory is enough: the model keeps no cache"


def rank_lines(report: Report, unit: str, room: int | None = None) -> list[str]:
    """One row per distinct rank, for several accelerators; the smallest groups are omitted if they do not fit."""
    estimate = report.estimate
    if not estimate.ranks:
        return []

    def show(groups: Sequence[Group], between: str = "\n") -> str:
        rows = [
            [_ranks(rank), *(format_bytes(estimate.group(group, rank) or 0, unit, label=False) for group in groups)]
            + [format_bytes(rank.total, unit, label=False)]
            for rank in estimate.ranks
        ]
        headers = [f"ranks ({unit})", *(GROUP_NAMES[group].replace(" ", between) for group in groups), "total"]
        alignment = ["left"] + ["right"] * (len(groups) + 1)
        return grid(rows, headers, alignment)

    groups = [group for group in GROUPS if any(estimate.group(group, rank) for rank in estimate.ranks)]
    whole = show(groups, " ")
    if room is None or widest(whole) <= room:
        return whole.splitlines()
    text, out = narrowed(groups, show, room, lambda group: -(estimate.group(group) or 0), kept=0)
    named = [left_out([GROUP_NAMES[group] for group in groups if group in out])] if out else []
    return [*text.splitlines(), *named]


def _ranks(rank: Rank) -> str:
    """The numbers of ranks, with ranges as `0-3`."""
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
    """Models × accelerators with free memory, or the number of accelerators needed, in blocks that fit the width."""
    names = list(dict.fromkeys(machine_words(fit) for report in reports for fit in report.fits))
    room = min(width or _MATRIX_WIDTH, _MATRIX_WIDTH)
    longest = max((len(line(report.name)) for report in reports), default=0)
    beyond = max((widest(_block(reports, [name], unit, longest)) for name in names), default=0) - room
    longest = max(_SHORTEST_NAME, longest - max(0, beyond))
    blocks: list[str] = []
    while names:
        count = len(names)
        while count > 1 and widest(_block(reports, names[:count], unit, longest)) > room:
            count -= 1
        blocks.append(_block(reports, names[:count], unit, longest))
        names = names[count:]
    return "\n\n".join([*blocks, fold(_legend(reports, unit), room)])


def _legend(reports: Sequence[Report], unit: str) -> str:
    """The meaning of the cells; rarer words are only explained if they occur."""
    words = {fit.verdict for report in reports for fit in report.fits}
    rare = {
        "refused": "'refused': the engine does not start, however much memory is free",
        "unknown": "'unknown': part of the total is unknown, or it fits with some recipes only",
    }
    usual = f"free {unit} per accelerator ('tight': too little); 'no': {unit} missing, and how many are needed"
    return "; ".join([usual, *(text for word, text in rare.items() if word in words)])


def _block(reports: Sequence[Report], names: Sequence[str], unit: str, longest: int) -> str:
    """The matrix for some machines, with the models' names shortened to `longest` characters."""
    rows = []
    for report in reports:
        by_name = {machine_words(fit): fit for fit in report.fits}
        total = format_bytes(report.estimate.total, unit, label=False)
        cells = [fit_cell(by_name.get(name), unit) for name in names]
        rows.append(
            [shortened(line(report.name), longest), ("≥ " if report.estimate.is_lower_bound else "") + total, *cells]
        )
    headers = ["model", f"total\n({unit})", *(f"{name}\n{_size(reports, name, unit)}" for name in names)]
    alignment = ["left", "right"] + ["right"] * len(names)
    return grid(rows, headers, alignment)


def _size(reports: Sequence[Report], name: str, unit: str) -> str:
    """Usable bytes of a column's accelerator."""
    fits = [fit for report in reports for fit in report.fits if machine_words(fit) == name]
    known = bool(fits) and fits[0].machine.there
    return f"({format_bytes(fits[0].gpu.memory, unit, label=False)})" if known else ""


def machine_name(fit: Fit) -> str:
    """The name of a machine as requested, however much of it the model uses: an instance, `N × name`, or a name."""
    return named_machine(fit.machine)


def named_machine(machine: Machine) -> str:
    """The same of a machine."""
    count, name = machine.count, machine.accelerator.name
    return machine.instance or (f"{count} x {name}" if count and count > 1 else name)


def fit_cell(fit: Fit | None, unit: str) -> str:
    """A table cell: the free memory of an accelerator, or the missing memory and the number needed."""
    if fit is None:
        return ""
    if fit.headroom is None or fit.verdict in ("refused", "unknown"):
        return fit.verdict
    needed = f" (×{fit.gpus_needed})" if fit.verdict == "no" and fit.gpus_needed else ""
    return f"{fit.verdict}, {format_bytes(abs(fit.headroom), unit, label=False)}{needed}"


def list_gpus(rows: Sequence[Accelerator], instances: Sequence[Instance], unit: str, width: int | None = None) -> str:
    """The table of accelerators, and the cloud instances with their accelerators."""
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

    def show(columns: Sequence[int]) -> str:
        rows = [[row[index] for index in columns] for row in cards]
        shown, aligned = [headers[index] for index in columns], [alignment[index] for index in columns]
        return grid(rows, shown, aligned)

    text, out = narrowed(range(len(headers)), show, width, lambda index: index, kept=2)
    named = f"{left_out([headers[index] for index in sorted(out)], 'json')}\n\n" if out else ""
    return f"{text}\n\n{named}{grid(clouds, ['instance', 'holds'])}"


def fit_dict(fit: Fit) -> dict[str, Any]:
    """One row of the JSON contract's `fit`."""
    return {
        "asked": fit.machine.asked,
        "gpu": fit.gpu.name,
        "instance": fit.machine.instance or None,
        "offload": _offload_dict(fit.offload),
        "gpus": fit.parallel.gpus,
        "memory": fit.gpu.memory if fit.machine.there else None,
        "usable": fit.usable if fit.machine.there else None,
        "reserved": fit.reserve,
        "total": fit.estimate.total if fit.estimate else None,
        "fits": fit.fits,
        "verdict": fit.verdict,
        "tight": fit.tight,
        "margin": fit.margin.nbytes if fit.margin else None,
        "margin_source": fit.margin.source if fit.margin else None,
        "headroom": fit.headroom,
        "max_batch": fit.max_batch,
        "max_seq": fit.max_seq,
        **{f"max_{name}": size for name, size in fit.largest},
        "gpus_needed": fit.gpus_needed,
        "refused": fit.refused or None,
        "speed": _speed_dict(fit.speed),
        "memory_basis": fit.gpu.basis,
        "memory_source": fit.gpu.source,
    }


def _speed_dict(speed: Speed | None) -> dict[str, Any] | None:
    """The bound on the speed; null where it is not known."""
    if speed is None:
        return None
    return {"bytes_per_token": speed.bytes_per_token, "tokens_per_second_at_most": speed.most}


def speed_lines(fits: Sequence[Fit], unit: str) -> Iterator[str]:
    """How fast each machine makes tokens at most, with the arithmetic."""
    for fit in fits:
        if (found := fit.speed) is None:
            continue
        together = f" × {found.at_once} that read at once" if found.at_once > 1 else ""
        batch = f", {found.most * found.batch:,.1f} of {found.batch:,} together" if found.batch > 1 else ""
        hosted = "; the host's part comes on top, at a speed that is not known" if found.hosted else ""
        yield f"on {machine_words(fit)}: at most {found.most:,.1f} tokens/s a sequence{batch}"
        yield (
            f"  = {found.bandwidth / 10**9:,.0f} GB/s{together} / (weights {format_bytes(found.weights, unit)} + "
            f"cache {format_bytes(found.cache, unit)} read for a token){hosted}"
        )
        yield f"  {found.source}"


def _offload_dict(offload: Offload | None) -> dict[str, Any] | None:
    """The most of a model that an accelerator takes; null where the engine leaves nothing on the host."""
    if offload is None:
        return None
    return {
        "n_gpu_layers": offload.layers,
        "layers": offload.of,
        "n_cpu_moe": offload.experts_on_host,
        "total": offload.total,
        "host": offload.host,
        "host_memory": offload.room,
        "host_fits": offload.held,
    }
