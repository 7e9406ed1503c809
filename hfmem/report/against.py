"""An estimate held against a log, in words and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from tabulate import tabulate

from hfmem.against.values import Against, Fact, Row
from hfmem.engines.logs import What
from hfmem.engines.table import find_engine
from hfmem.options.option import flag
from hfmem.units import format_bytes

__all__ = ["against_dict", "against_lines"]

_NAMES: Final[dict[What, str]] = {
    "weights": "weights",
    "activations": "activations",
    "graphs": "CUDA graphs",
    "libraries": "libraries",
    "per_token": "cache of a token",
    "cache": "KV cache",
    "request": "cache of a request",
    "states": "recurrent states",
    "free": "free before loading",
    "consumed": "weights and libraries",
    "peak": "activations and graphs",
    "torch_peak": "weights and activations",
    "pool": "KV pool",
    "tokens": "tokens of the pool",
    "blocks": "blocks of the pool",
    "concurrency": "requests at once",
    "allocated": "allocated by PyTorch",
    "reserved": "reserved by PyTorch",
    "used": "in use on the card",
}

_FACTS: Final[dict[Fact, str]] = {
    "several_starts": "The log has several starts: this is the last.",
    "ranks": "Ranks differ in the log: the largest figure counts.",
    "negative": "A difference below zero in the log is left out: other programs moved the free memory.",
    "hybrid": "Layers of several kinds: their tokens cannot be counted together.",
    "whole_machine": "This GPU shares the machine's memory: free memory counts other programs too.",
    "adapters": "The log's server has adapters, whose slots count with its weights.",
    "drafts": "The log's server makes drafts: its weights and pool may have those of a draft.",
    "out_of_memory": "The run ran out of memory: the figure is what it had and asked for, and it needed more.",
    "current_only": "The snapshot has no history: this is what was held when it was taken, not the peak.",
}

_PROGRAMS: Final = {
    "torch": "PyTorch",
    "trainer": "the Trainer",
    "nvidia-smi": "nvidia-smi",
}


def against_lines(found: Against, unit: str) -> Iterator[str]:
    """The comparison for people."""
    log = found.log
    release = f" {log.version}" if log.version else ""
    row = find_engine(log.software)
    yield f"against {log.name} ({row.title if row else _PROGRAMS[log.software]}{release})"
    rows = [
        [
            _NAMES[row.reading.what],
            _size(row, row.estimated, unit),
            _size(row, row.reading.value, unit),
            _apart(row),
        ]
        for row in found.rows
    ]
    yield tabulate(
        rows,
        headers=["", "estimated", "measured", ""],
        disable_numparse=True,
        colalign=("left", "right", "right", "left"),
    )
    yield _verdict(found)
    if log.model:
        yield f"The log is of {log.model}."
    if found.taken:
        yield f"Taken from the log: {' '.join(found.taken)}."
    for each in found.differences:
        yield f"The log has {each.option} {each.stated}, and {each.asked} was asked."
    if log.broken:
        yield f"Left out, as the log has no possible value for them: {', '.join(map(flag, log.broken))}."
    yield from (_FACTS[fact] for fact in log.facts)
    yield "To contribute it as a measurement, without paths: " + json.dumps(found.contribution)


def _verdict(found: Against) -> str:
    """Which term is off."""
    off = found.off
    if not any(row.estimated is not None for row in found.rows):
        return "Nothing in the log can be compared with this estimate."
    if off is None:
        return "All terms agree."
    row = next(row for row in found.rows if row.reading.what == off and row.off)
    way = "too high" if (row.difference or 0) > 0 else "too low"
    return f"Off: {_NAMES[off]}, which the estimate has {way}."


def _size(row: Row, value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if row.reading.what in ("tokens", "blocks"):
        return f"{value:,.0f}"
    if row.reading.what == "concurrency":
        return f"{value:,.2f}"
    return f"{value:,.0f} B" if row.reading.what == "per_token" else format_bytes(round(value), unit)


def _apart(row: Row) -> str:
    if row.difference is None:
        return "not comparable"
    share = f"{row.difference / row.reading.value:+.1%}" if row.reading.value else ""
    return f"{share}{'  off' if row.off else ''}"


def against_dict(found: Against) -> dict[str, Any]:
    """The comparison in JSON."""
    log = found.log
    return {
        "file": log.name,
        "software": log.software,
        "version": log.version or None,
        "model": log.model or None,
        "off": found.off,
        "rows": [
            {
                "term": row.reading.what,
                "estimated": row.estimated,
                "measured": row.reading.value,
                "off": row.off,
                "line": row.reading.line or None,
            }
            for row in found.rows
        ],
        "taken": list(found.taken),
        "differences": [{"option": each.option, "log": each.stated, "asked": each.asked} for each in found.differences],
        "facts": list(log.facts),
        "broken": [flag(name) for name in log.broken],
        "contribution": dict(found.contribution),
    }
