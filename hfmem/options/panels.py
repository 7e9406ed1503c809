"""The headings that options stand under in help, in order; each engine has one of its own after the accelerators."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ACCELERATORS",
    "ADAPTERS",
    "HELP",
    "LISTS",
    "MODEL",
    "NUMBERS",
    "OUTPUT",
    "PARALLELISM",
    "SIZE",
    "TOPICS",
    "TRAINING",
    "in_order",
]

MODEL: Final = "Model"
SIZE: Final = "Size of the run"
NUMBERS: Final = "Number formats"
ACCELERATORS: Final = "Accelerators"
TRAINING: Final = "Training"
ADAPTERS: Final = "Adapters"
PARALLELISM: Final = "Parallelism"
LISTS: Final = "Lists"
OUTPUT: Final = "Output"
HELP: Final = "Help"

_FIRST: Final = (MODEL, SIZE, NUMBERS, ACCELERATORS)
_LAST: Final = (TRAINING, ADAPTERS, PARALLELISM, LISTS, OUTPUT, HELP)

TOPICS: Final = {"training": (TRAINING, ADAPTERS, PARALLELISM), "lists": (LISTS, OUTPUT)}
"""What `--help-for` takes beside the engines' names."""


def in_order(panels: set[str]) -> tuple[str, ...]:
    """The panels as help has them: those that are named nowhere here (the engines') after the accelerators."""
    others = sorted(panels - {*_FIRST, *_LAST}, key=str.lower)
    return tuple(panel for panel in (*_FIRST, *others, *_LAST) if panel in panels)
