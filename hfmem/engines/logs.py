"""How the log of an engine's server is read: lines that measure memory, and settings that it states.

Each engine has its `LOGS` in the module that its row names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from hfmem.units import GIB

__all__ = ["NUMBER", "WORD", "Line", "Logs", "What", "line"]

What = Literal[
    "weights",
    "activations",
    "graphs",
    "per_token",
    "cache",
    "states",
    "free",
    "pool",
    "tokens",
    "concurrency",
    "allocated",
    "reserved",
    "used",
]
"""What a line measures: the weights after loading, the peak or the compute buffers above them, CUDA graphs, bytes of
the cache for a token, a cache of fixed size, recurrent states, memory that is free before loading; a server's pool, its
tokens and how many requests it holds; what PyTorch's allocator gave out and holds at its peak; and what a card has in
use."""

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
    """

    pattern: re.Pattern[str]
    what: What
    scale: float = GIB
    device: bool = False


def line(pattern: str, what: What, scale: float = GIB, *, device: bool = False) -> Line:
    """A line with its pattern compiled."""
    return Line(pattern=re.compile(pattern), what=what, scale=scale, device=device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """The log of a server.

    Attributes:
        lines: what it measures; of several lines of a kind that match, the first counts.
        settings: options of hfmem that it states, with patterns of one group; `model` is the model's name.
        starts: the line with which a start begins.
        adds_pools: whether the largest of several pools is their sum.
        leaves: whether the server leaves memory for activations instead of measuring them.
        fixed: whether the options on sizes stand for length and batch, which then are not taken.
        source: what the lines are from.
    """

    lines: tuple[Line, ...]
    settings: tuple[tuple[str, re.Pattern[str]], ...]
    starts: re.Pattern[str]
    adds_pools: bool = False
    leaves: bool = False
    fixed: tuple[str, ...] = ()
    source: str
