"""Verdicts as lines of text, or as the Markdown of a job's summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hfmem.preflight.verdict import Verdict
from hfmem.report.escapes import line, markdown_cell
from hfmem.units import format_bytes

__all__ = ["markdown", "text"]

_WORDS: Final = {
    "fits": "✅ fits",
    "tight": "⚠️ fits, but tight",
    "no": "❌ no",
    "refused": "❌ refused",
    "unknown": "❔ unknown",
}


def text(verdicts: Sequence[Verdict]) -> str:
    """One line for each model and accelerator."""
    lines = []
    for verdict in verdicts:
        name = line(verdict.question.name)
        lines += [f"{name}: {line(problem)}" for problem in verdict.problems]
        for result in verdict.results:
            total = _total(result)
            model = line(result["model"])
            lines += [f"{name}: {model}, {total}, {_gpu(fit)}: {_said(fit)}" for fit in result["fit"] or ()]
            lines += [f"    {line(_saving(saving))}" for saving in _savings(result)]
    return "\n".join(lines)


def markdown(verdicts: Sequence[Verdict]) -> str:
    """A table with a row for each model and accelerator, what would help, and what was assumed."""
    rows = [row for verdict in verdicts for row in _rows(verdict)]
    parts = ["### Does it fit? (hfmem)", ""]
    parts += ["| | model | accelerator | memory | verdict |", "|---|---|---|---|---|", *rows, ""]
    for verdict in verdicts:
        for result in verdict.results:
            savings = [f"* {markdown_cell(_saving(saving))}" for saving in _savings(result)]
            if savings:
                parts += [f"**What would help {_code(result['model'])}**", "", *savings, ""]
            parts += [
                "<details><summary>What was assumed</summary>",
                "",
                *_assumed(verdict, result),
                "",
                "</details>",
                "",
            ]
    return "\n".join(parts)


def _rows(verdict: Verdict) -> Iterator[str]:
    name = _code(verdict.question.name)
    for problem in verdict.problems:
        yield f"| {name} | | | | ❌ {markdown_cell(problem)} |"
    for result in verdict.results:
        for fit in result["fit"] or ():
            told = f"{_WORDS[fit['verdict']]}{_beside(fit)}"
            cells = (
                name,
                markdown_cell(result["model"]),
                markdown_cell(_gpu(fit)),
                _total(result),
                markdown_cell(told),
            )
            yield f"| {' | '.join(cells)} |"


def _assumed(verdict: Verdict, result: Mapping[str, Any]) -> Iterator[str]:
    scenario, memory = result["scenario"], result["memory"]
    yield f"* {scenario['mode']}: batch {scenario['batch']:,} × {scenario['seq']:,} tokens, {scenario['runtime']}"
    parts = [
        f"{name.replace('_', ' ')} {format_bytes(size)}" for name, size in memory.items() if size and name != "total"
    ]
    yield f"* {', '.join(parts)}"
    if verdict.question.ignored:
        yield f"* takes no memory: {', '.join(map(_code, verdict.question.ignored))}"
    yield from (f"* {markdown_cell(note)}" for note in result["notes"])


def _savings(result: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Of a model that does not fit, what would: at most three."""
    bad = any(fit["verdict"] not in ("fits", "tight") for fit in result["fit"] or ())
    return [saving for saving in result["help"] or () if saving["fits"]][:3] if bad else []


def _saving(saving: Mapping[str, Any]) -> str:
    what = f" ({saving['what']})" if saving.get("what") else ""
    return f"{saving['option']}: {format_bytes(saving['total'])}{what}"


def _said(fit: Mapping[str, Any]) -> str:
    return f"{_WORDS[fit['verdict']].partition(' ')[2]}{_beside(fit)}"


def _beside(fit: Mapping[str, Any]) -> str:
    """What stands behind the word: memory that is free or missing, or the engine's reason."""
    if fit["refused"]:
        return f": {fit['refused']}"
    if fit["headroom"] is None:
        return ""
    room = format_bytes(abs(fit["headroom"]))
    if fit["headroom"] >= 0:
        return f", {room} free"
    needed = f", {fit['gpus_needed']} are needed" if fit["gpus_needed"] else ""
    return f", {room} missing{needed}"


def _gpu(fit: Mapping[str, Any]) -> str:
    return f"{fit['gpus']} × {fit['gpu']}" if fit["gpus"] > 1 else str(fit["gpu"])


def _total(result: Mapping[str, Any]) -> str:
    return f"{'≥ ' if result['total_is_lower_bound'] else ''}{format_bytes(result['memory']['total'])}"


def _code(word: str) -> str:
    """A word as code; a pipe would end the cell of a table, a backquote the code."""
    return f"`{line(word).replace('`', chr(39)).replace('|', chr(92) + '|')}`"
