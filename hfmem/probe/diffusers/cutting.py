"""Convolutions that cuDNN runs in pieces: those of which a tensor of the whole batch has too many elements.

Of each such convolution that can be the highest moment of a call: what is alive beside its copies, its larger copy and
both, elements of the larger of its input and output, and its batch, as polynomials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from hfmem.engines.convolutions import Convolution
from hfmem.probe.diffusers.recording import COPIES, Recorded

__all__ = ["FACTS", "columns", "cut"]

FACTS: Final = ("bare", "larger", "both", "elements", "images")
"""What is known of a convolution."""


def columns(runs: Sequence[Recorded]) -> np.ndarray:
    """The facts of each convolution in calls with the same operations: a call, a convolution, a fact."""
    return np.array([[_facts(run, number) for number in range(len(run.convolved))] for run in runs], dtype=float)


def _facts(run: Recorded, number: int) -> tuple[int, ...]:
    first = [place for place, op in enumerate(run.ops) if op == COPIES[0]][number]
    bare, larger, both = run.moments[first - 1 : first + 2]
    return (bare, larger - bare, both - bare, *run.convolved[number])


def cut(facts: np.ndarray, floor: np.ndarray, needed: Callable[[np.ndarray, np.ndarray], Sequence[int]]) -> list[int]:
    """The convolutions that are the highest for some call, if one of them is run in pieces.

    Args:
        facts: of each call and convolution.
        floor: the highest moment without copies, of each call.
        needed: the candidates that are the highest for some call, of their values by candidate and call.
    """
    found = [[Convolution(**dict(zip(FACTS, each, strict=True))) for each in call] for call in facts.tolist()]
    some = np.array([any(each.share < 1 for each in call) for call in found])
    if not some.any():
        return []
    most = np.array([[each.most for each in call] for call in found])
    least = np.array([[each.least(single=True) for each in call] for call in found])
    return sorted({number for end in (most, least) for number in needed(end[some].T, floor[some])})
