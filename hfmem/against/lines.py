"""Figures in the lines of logs: those of each engine's server, metrics of transformers' Trainer, and what nvidia-smi
prints.

Sources: transformers 5.24 `trainer_utils.py::TrainerMemoryTracker` (its MB is 2^20), nvidia-smi 4xx to 5xx, PyTorch
1.13 to 2.13 `c10/cuda/CUDACachingAllocator.cpp` (what it says when it runs out of memory).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Final

from hfmem.engines.logs import NUMBER, Line, Logs, What, line
from hfmem.engines.table import engines
from hfmem.units import MIB

__all__ = ["Found", "found_in", "logs"]

_OTHERS: Final[tuple[tuple[str, Line], ...]] = (
    ("trainer", line(rf"init_mem_gpu_alloc_delta\W+{NUMBER} ?MB", "allocated", MIB, device=True)),
    ("trainer", line(rf"train_mem_gpu_alloc_delta\W+{NUMBER} ?MB", "allocated", MIB, device=True)),
    ("trainer", line(rf"train_mem_gpu_peaked_delta\W+{NUMBER} ?MB", "allocated", MIB, device=True)),
    *(
        ("torch", replace(line(pattern, "allocated"), least=True))
        for pattern in (
            rf"Tried to allocate {NUMBER} GiB.{{0,900}}?allocated memory {NUMBER} GiB is allocated by PyTorch",
            rf"Tried to allocate {NUMBER} GiB.{{0,900}}?{NUMBER} GiB already allocated",
            rf"allocated memory {NUMBER} GiB is allocated by PyTorch",
            rf"{NUMBER} GiB already allocated",
        )
    ),
    ("nvidia-smi", line(rf"\|[^|]*\| +{NUMBER}MiB / +[\d]+MiB \|", "used", MIB)),
    ("nvidia-smi", line(rf"^{NUMBER} MiB, \d+ MiB\s*$", "used", MIB)),
)


_LARGEST: Final = 2**60  # bytes or tokens; more is no size


@cache
def logs() -> Mapping[str, Logs]:
    """How the log of each engine's server is read."""
    return {row.name: import_module(row.logs).LOGS for row in engines() if row.logs}


@cache
def _lines() -> tuple[tuple[str, Line], ...]:
    own = ((name, each) for name, found in logs().items() for each in found.lines)
    return (*own, *_OTHERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A figure in a line.

    Attributes:
        software: what printed it.
        what: what it measures.
        value: bytes, tokens or requests.
        line: the line's number.
        device: one of several devices whose figures of a kind are added up; "" where the largest counts.
        last: whether of several figures of a device the last counts.
        least: whether a run that failed had so much, and needs more.
    """

    software: str
    what: What
    value: float
    line: int
    device: str = ""
    last: bool = False
    least: bool = False


def found_in(text: str, number: int) -> Iterator[Found]:
    """The figures of a line; of several patterns of a kind, the first that matches."""
    seen = set()
    for software, each in _lines():
        match = each.pattern.search(text)
        if match is None or (software, each.what) in seen:
            continue
        seen.add((software, each.what))
        named = match.groupdict().get("device") or ("card" if each.device else "")
        numbers = [group for name, group in zip(_names(each.pattern), match.groups(), strict=True) if name != "device"]
        try:
            value = sum(float(group.replace(",", "")) for group in numbers)
        except ValueError:
            continue
        if not abs(value * each.scale) < _LARGEST:
            continue
        yield Found(
            software=software,
            what=each.what,
            value=value * each.scale,
            line=number,
            device=named,
            last=each.last,
            least=each.least,
        )


def _names(pattern: re.Pattern[str]) -> list[str]:
    """The name of each group of a pattern; "" for those without."""
    names = {index: name for name, index in pattern.groupindex.items()}
    return [names.get(index, "") for index in range(1, pattern.groups + 1)]
