"""How the log of an engine's server is read: lines that measure memory, and settings that it states.

Each engine has its `LOGS` in the module that its row names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from hfmem.units import GIB

__all__ = ["NUMBER", "WORD", "Cause", "Line", "Logs", "What", "line"]

Cause = Literal["weights", "activations", "graphs", "libraries", "per_token", "cache", "request", "states", "free"]
"""What is no sum of others."""

What = Literal[
    Cause,
    "consumed",
    "peak",
    "torch_peak",
    "pool",
    "tokens",
    "blocks",
    "concurrency",
    "allocated",
    "reserved",
    "used",
]
"""What a line measures: the weights after loading, the peak or the compute buffers above them, CUDA graphs, what
libraries allocate themselves, bytes of the cache for a token, a cache of fixed size, the cache of a request of the
longest length, recurrent states, memory that is free before loading; sums of them that servers print: weights and
libraries, activations and the graphs that a profile run expects, weights and activations; a server's pool, its tokens,
its blocks and how many requests it holds; what PyTorch's allocator gave out and holds at its peak; and what a card has
in use."""

NUMBER: Final = r"(-?[\d,]+(?:\.\d+)?)"
"""A number in a pattern of a line."""

WORD: Final = r"['\"]?([^'\",)}\s]+)"
"""A word in a pattern of a setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that measures something.

    Attributes:
        pattern: with one group for each number; several are added up.
        what: what it measures.
        scale: bytes of a unit; 1 for numbers.
        device: whether the group `device` names one of several devices, whose figures of a kind are added up.
        last: whether of several figures of a device the last counts, as the others are of trials.
        least: whether it is what a run had when it failed, so that it needs more.
    """

    pattern: re.Pattern[str]
    what: What
    scale: float = GIB
    device: bool = False
    last: bool = False
    least: bool = False


def line(pattern: str, what: What, scale: float = GIB, *, device: bool = False, last: bool = False) -> Line:
    """A line with its pattern compiled."""
    return Line(pattern=re.compile(pattern), what=what, scale=scale, device=device, last=last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """The log of a server.

    Attributes:
        lines: what it measures; of several lines of a kind that match, the first counts.
        settings: options of hfmem that it states, with patterns of one group; `model` is the model's name.
        starts: the line with which a start begins.
        adds_pools: whether the largest of several pools is their sum.
        runs: the engine whose server it starts, whose lines count where they are there; "" for none.
        leaves: whether the server leaves memory for activations instead of measuring them.
        derive: further options that follow from the settings; those that are no options are left out.
        fixed: whether the options on sizes stand for length and batch, which then are not taken.
        source: what the lines are from.
    """

    lines: tuple[Line, ...]
    settings: tuple[tuple[str, re.Pattern[str]], ...]
    starts: re.Pattern[str]
    adds_pools: bool = False
    runs: str = ""
    leaves: bool = False
    derive: Callable[[Mapping[str, object]], Mapping[str, object]] = lambda _settings: {}
    fixed: tuple[str, ...] = ()
    source: str
