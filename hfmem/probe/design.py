"""Whether the sizes of some runs determine products of these sizes.

A tensor is recognised as a product of sizes. Where two sizes grow together in all runs, or one does not change, other
products have the same bytes there, and other bytes at the sizes of a published model. The logarithm of a product is a
sum, so exponents are determined where the matrix of the sizes' logarithms has as many independent columns as sizes.
Sizes that depend on each other in every run that a class takes (a tower's width is its heads times their width) do so
in published models, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log

import numpy as np

__all__ = ["undetermined"]

Sizes = Mapping[str, int]

_SAME = 1e-9
"""Columns that differ by less than this, relative to the largest, depend on each other: rounding is far below it."""


def undetermined(fit: Sequence[Sizes], taken: Sequence[Sizes]) -> list[str]:
    """Names of the sizes that the runs of a fit do not tell from other ones; [] where they tell all of them.

    Args:
        fit: sizes of the runs that are fitted, by name.
        taken: sizes of all runs that the class takes, of which these are a part.
    """
    names = [name for name in fit[0] if all(one.get(name, 0) > 0 for one in taken)]
    if _rank(fit, names) == _rank(taken, names):
        return []
    return [name for name in names if _alone(taken, names, name) and not _alone(fit, names, name)] or names


def _alone(runs: Sequence[Sizes], names: Sequence[str], name: str) -> bool:
    """Whether a size does not follow from the other ones."""
    return _rank(runs, names) > _rank(runs, [other for other in names if other != name])


def _rank(runs: Iterable[Sizes], names: Sequence[str]) -> int:
    """Independent columns of the design matrix: a constant, and the logarithm of each size."""
    matrix = np.array([[1.0, *(log(one[name]) for name in names)] for one in runs])
    return int(np.linalg.matrix_rank(matrix, tol=_SAME * np.linalg.norm(matrix, 2)))
