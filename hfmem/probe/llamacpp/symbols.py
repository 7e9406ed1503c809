"""Sizes as formulas: which products of which values give the bytes of each step, from runs in which one value differs.

A size is a polynomial that is linear in each value (squares occur too: a decay between the tokens of a batch). Where
one value doubled makes it exactly so many times as large, the value is a factor; else it is a sum, whose parts the
runs in which several values differ tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from math import log, prod
from typing import Final

__all__ = ["Formula", "UnfitError", "fitted", "value_of"]

_MOST: Final = 6  # values of a sum: twice as many runs for each

Values = Mapping[str, int]
Formula = tuple[tuple[Fraction, tuple[str, ...]], ...]
"""A sum of products: each a factor and the names of its values, a name twice for a square."""


class UnfitError(Exception):
    """No formula of this kind gives the sizes."""


def value_of(formula: Formula, values: Values) -> Fraction:
    """What a formula gives."""
    total = Fraction(0)
    for factor, names in formula:
        part = factor
        for name in names:
            part *= values[name]
        total += part
    return total


def fitted(
    sizes: Callable[[frozenset[str]], tuple[Values, int] | None], names: Sequence[str], following: str = ""
) -> Formula:
    """The formula of a size.

    Args:
        sizes: all values and the size of a run in which these named values differ from the first run's; None where
            there is no such run.
        names: of values, those that others follow from last.
        following: one that may not change alone, but with others.

    Raises:
        UnfitError: there is none.
    """
    base = sizes(frozenset())
    if base is None:
        raise UnfitError("no first run")
    values, size = base
    if size == 0:
        return ()
    powers: dict[str, int] = {}
    sums: list[str] = []
    for name in names:
        run = sizes(frozenset((name,)))
        if run is None:
            continue
        power = _power(name, values, size, run, powers)
        if power is None and following in values and following not in powers:
            with_it = _power(name, values, size, run, {**powers, following: 1})
            if with_it is not None and run[0][following] != values[following]:
                power, powers[following] = with_it, 1
        if power is None:
            sums.append(name)
        elif power:
            powers[name] = power
    common = tuple(name for name, power in powers.items() for _ in range(power))
    if not sums:
        return ((Fraction(size) / value_of(((Fraction(1), common),), values), common),)
    return _sum(sizes, sums, common, values)


def _power(name: str, values: Values, size: int, run: tuple[Values, int], known: Mapping[str, int]) -> int | None:
    """How often a value is a factor; None where it is not one."""
    other, found = run
    rest = Fraction(found, size)
    for each, power in known.items():
        if each != name:
            rest /= Fraction(other[each], values[each]) ** power
    ratio = Fraction(other[name], values[name])
    if rest == 1:
        return 0
    power = round(log(rest) / log(ratio)) if ratio != 1 and rest > 0 else 0
    return power if 0 < power <= 2 and ratio**power == rest else None


def _sum(
    sizes: Callable[[frozenset[str]], tuple[Values, int] | None],
    sums: Sequence[str],
    common: tuple[str, ...],
    values: Values,
) -> Formula:
    """A sum: by inclusion and exclusion over the values that are no factors of all its parts."""
    if len(sums) > _MOST:
        raise UnfitError(f"a sum in {len(sums)} values")
    corners, steps = _corners(sizes, sums, common, values)
    found: dict[frozenset[str], Fraction] = {}
    for chosen in corners:
        signs = ((-1) ** (len(chosen) - len(less)) * corner for less, corner in corners.items() if less <= chosen)
        factor = sum(signs, Fraction(0)) / prod((steps[name] for name in chosen), start=Fraction(1))
        # a product of differences from the first run, in terms of the values themselves
        for less in _subsets(sorted(chosen)):
            part = factor * prod((-values[name] for name in chosen - less), start=1)
            found[less] = found.get(less, Fraction(0)) + part
    return tuple((factor, (*sorted(chosen), *common)) for chosen, factor in found.items() if factor)


def _corners(
    sizes: Callable[[frozenset[str]], tuple[Values, int] | None],
    sums: Sequence[str],
    common: tuple[str, ...],
    values: Values,
) -> tuple[dict[frozenset[str], Fraction], dict[str, Fraction]]:
    """The size, without common factors, of each run in which some of the values differ; and by how much each does."""
    corners: dict[frozenset[str], Fraction] = {}
    steps: dict[str, Fraction] = {}
    for chosen in _subsets(sums):
        run = sizes(chosen)
        if run is None:
            raise UnfitError(f"no run with {sorted(chosen)}")
        other, size = run
        corners[chosen] = size / value_of(((Fraction(1), common),), other)
        for name in chosen:
            steps[name] = Fraction(other[name] - values[name])
    return corners, steps


def _subsets(names: Sequence[str]) -> Iterator[frozenset[str]]:
    for count in range(len(names) + 1):
        yield from map(frozenset, combinations(names, count))
