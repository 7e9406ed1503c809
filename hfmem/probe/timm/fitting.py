"""Derives polynomials in grids of positions (`hfmem.estimator.activations.grids`) from recorded forward passes.

Each storage is recognised by itself, exactly, over passes that did the same operations; a moment is the sum of what is
alive at it. So it does not matter which moment is the highest in a probe.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from hfmem.estimator.activations.grids import Grid, grids
from hfmem.probe.timm.recording import KINDS, Call, Recorded

__all__ = ["Fitted", "UnfitError", "deviation", "fit"]

_STRIDES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 7, 14, 28, 56, 112, 224, 448, 12, 24, 48, 96, 192, 384, 3, 6, 10, 20)
_STRIDES_MORE: Final = (40, 80, 160, 5, 9, 18, 36, 72, 144)
_CLOSE: Final = 0.9998  # of the highest moment: one this close needs no entry of its own

_Polynomial = dict[Grid, int]


class UnfitError(ValueError):
    """There are no polynomials that hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Candidates for the highest moment, by kind."""

    peak: tuple[_Polynomial, ...]
    once: tuple[_Polynomial, ...]
    copied: tuple[_Polynomial, ...]

    def highest(self, call: Call, kind: str = "peak") -> int:
        """The highest moment of a kind, or of those before it."""
        kinds = KINDS[: KINDS.index(kind) + 1]
        return max(
            (grids(one, call.batch, call.height, call.width) for each in kinds for one in getattr(self, each)),
            default=0,
        )


@cache
def _levels() -> tuple[tuple[int, int], ...]:
    """Strides and shifts, the usual ones first: sides rounded up or down at each step, then others."""
    usual: list[tuple[int, int]] = []
    odd: list[tuple[int, int]] = []
    for stride in (*_STRIDES, *_STRIDES_MORE):
        for shift in range(-4 * stride, 2 * stride + 1):
            (usual if shift in (stride - 1, 0) else odd).append((stride, shift))
    # strides of two, again and again, before any other, which may fit a few sizes by chance
    odd.sort(key=lambda level: (not _is_power(level[0]), abs(level[1]), level[0]))
    # where sides are whole multiples of a patch, several fit: the patch itself, and no rounding
    usual.sort(key=lambda level: (-level[0], level[1]))
    return (*usual, *odd)


def _is_power(stride: int) -> bool:
    """Whether a stride is a power of two."""
    return stride & (stride - 1) == 0


class _Solver:
    """Recognises sizes over some calls."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._batches = np.array([call.batch for call in calls], dtype=np.int64)
        rows, columns = ([_sides(call, axis) for call in calls] for axis in (0, 1))
        above = np.array(rows, dtype=np.int64).T
        beside = np.array(columns, dtype=np.int64).T
        self._positions, self._sums = above * beside, above + beside
        self._known: dict[tuple[int, ...], _Polynomial | None] = {}

    def solve(self, sizes: tuple[int, ...]) -> _Polynomial | None:
        """The polynomial; None where there is none."""
        if sizes not in self._known:
            self._known[sizes] = self._solve(np.array(sizes, dtype=np.int64))
        return self._known[sizes]

    def _solve(self, sizes: np.ndarray) -> _Polynomial | None:
        if (sizes == sizes[0]).all():
            return {Grid(False): int(sizes[0])}
        each = [(True, sizes // self._batches)] if not (sizes % self._batches).any() else []
        for batch, values in (*each, (False, sizes)):
            if (values == values[0]).all():
                return {Grid(batch): int(values[0])}
            found = self._linear(values, batch) or self._further(values, batch)
            if found is not None:
                return found
        return None

    def _linear(self, values: np.ndarray, batch: bool) -> _Polynomial | None:
        """Positions times bytes, and tokens beside them."""
        whole = (self._positions * values[0] == values * self._positions[:, :1]).all(axis=1)
        whole &= (self._positions > 0).all(axis=1)
        for number in np.flatnonzero(whole)[:1]:
            factor = values[0] / self._positions[number, 0]
            if factor == int(factor):
                return {self._grid(number, batch, "p"): int(factor)}
        return self._exactly(values, batch, ("p", ""))

    def _further(self, values: np.ndarray, batch: bool) -> _Polynomial | None:
        """Sides with a border, and pairs of positions."""
        return self._exactly(values, batch, ("p", "rc", "")) or self._exactly(values, batch, ("pp", "p", ""))

    def _exactly(self, values: np.ndarray, batch: bool, forms: Sequence[str]) -> _Polynomial | None:
        columns = {"p": self._positions, "rc": self._sums, "pp": self._positions**2, "": np.ones_like(self._positions)}
        design = np.stack([columns[form] for form in forms], axis=2).astype(float)
        scale = design.max(axis=1, keepdims=True)
        scale[scale <= 0] = 1
        found = np.linalg.pinv(design / scale, rcond=1e-10) @ values.astype(float) / scale[:, 0, :]
        rounded = np.round(found)
        made = (design @ rounded[:, :, None])[:, :, 0]
        whole = (made == values).all(axis=1) & (rounded[:, 0] > 0) & (np.abs(found - rounded) < 1e-3).all(axis=1)
        for number in np.flatnonzero(whole)[:1]:
            return {
                self._grid(number, batch, form): int(x) for form, x in zip(forms, rounded[number], strict=True) if x
            }
        return None

    @staticmethod
    def _grid(number: int, batch: bool, form: str) -> Grid:
        stride, shift = _levels()[number]
        return Grid(batch, form, stride, shift) if form else Grid(batch)


def _sides(call: Call, axis: int) -> list[int]:
    side = (call.height, call.width)[axis]
    return [(side + shift) // stride for stride, shift in _levels()]


def fit(runs: Sequence[Recorded], realistic: Sequence[Call]) -> Fitted:
    """The candidates for the highest moment.

    Raises:
        UnfitError: passes did different operations, or a storage is of no known form.

    Args:
        runs: passes of one model at different sizes.
        realistic: calls for which the highest moments are kept.
    """
    if len({(run.ops, run.moments) for run in runs}) > 1:
        raise UnfitError("the operations depend on the size")
    solver = _Solver([run.call for run in runs])
    columns = list(zip(*(run.sizes for run in runs), strict=True))
    found: dict[str, dict[tuple[tuple[Grid, int], ...], None]] = {kind: {} for kind in KINDS}
    for moment in runs[0].moments:
        total: _Polynomial = {}
        for number in (*moment.live, *moment.copies):
            one = solver.solve(columns[number])
            if one is None:
                raise UnfitError(f"sizes {columns[number]} are of no known form")
            for grid, nbytes in one.items():
                total[grid] = total.get(grid, 0) + nbytes
        found[moment.kind][tuple(sorted(total.items()))] = None
    tables = {kind: [dict(one) for one in found[kind]] for kind in KINDS}
    plain = _highest(tables["peak"], realistic, None)
    floor = _values(plain, realistic).max(axis=0)
    once = _highest(tables["once"], realistic, floor)
    more = np.maximum(floor, _values(once, realistic).max(axis=0)) if once else floor
    return Fitted(peak=plain, once=once, copied=_highest(tables["copied"], realistic, more))


def _values(tables: Sequence[_Polynomial], calls: Sequence[Call]) -> np.ndarray:
    names = sorted({grid for one in tables for grid in one})
    at = np.array([[grid.at(c.batch, c.height, c.width) for c in calls] for grid in names], dtype=float)
    factors = np.array([[one.get(grid, 0) for grid in names] for one in tables], dtype=float)
    return np.asarray(factors @ at)


def _highest(tables: Sequence[_Polynomial], calls: Sequence[Call], floor: np.ndarray | None) -> tuple[_Polynomial, ...]:
    """Few that have the highest one for each call."""
    if not tables:
        return ()
    values = _values(tables, calls)
    top = values.max(axis=0)
    needed = np.ones(len(top), bool) if floor is None else top > floor
    kept: list[int] = []
    while needed.any():
        close = (values >= top * _CLOSE) & needed
        # of several that are as near for as many calls, the highest
        best = max(range(len(tables)), key=lambda number: (int(close[number].sum()), values[number, needed].sum()))
        kept.append(best)
        needed &= ~close[best]
    return tuple(tables[number] for number in kept)


def deviation(found: Fitted, runs: Sequence[Recorded]) -> float:
    """How far the highest moments are off, at most."""
    pairs: Iterator[tuple[Recorded, str]] = itertools.product(runs, KINDS)
    return max(abs(found.highest(run.call, kind) / run.highest(kind) - 1) for run, kind in pairs)
