"""The headings of the help, in order; each engine has its own after the accelerators."""

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
    "TRAINERS",
    "TRAINING",
    "in_order",
]

MODEL: Final = "Model"
SIZE: Final = "Size of the run"
NUMBERS: Final = "Number formats"
ACCELERATORS: Final = "Accelerators"
TRAINING: Final = "Training"
TRAINERS: Final = "Trainers of TRL, and batches"
ADAPTERS: Final = "Adapters"
PARALLELISM: Final = "Parallelism"
LISTS: Final = "Lists"
OUTPUT: Final = "Output"
HELP: Final = "Help"

_FIRST: Final = (MODEL, SIZE, NUMBERS, ACCELERATORS)
_LAST: Final = (TRAINING, TRAINERS, ADAPTERS, PARALLELISM, LISTS, OUTPUT, HELP)

TOPICS: Final = {"training": (TRAINING, TRAINERS, ADAPTERS, PARALLELISM), "lists": (LISTS, OUTPUT)}
"""Values of `--help-for` in addition to the engines' names."""


def in_order(panels: set[str]) -> tuple[str, ...]:
    """The panels in the order of the help; those not listed here (the engines') come after the accelerators."""
    others = sorted(panels - {*_FIRST, *_LAST}, key=str.lower)
    return tuple(panel for panel in (*_FIRST, *others, *_LAST) if panel in panels)
