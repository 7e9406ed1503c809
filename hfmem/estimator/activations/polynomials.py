"""Polynomials in named sizes, in which the measured coefficients are written.

`16·b·s·hidden + 8·b·s·intermediate + 8` is stored as `8+b*s*(16*hidden+8*intermediate)`. `b` is the batch size, `s` the
tokens per sequence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

__all__ = ["Monomial", "Polynomial"]

Monomial = tuple[str, ...]

_TOKENS: Final = ("s", "past", "seen")


_COMMON: Final = ("b", "s", "past", "seen", "source")
"""Names that are factored out in front of the parentheses, repeated for higher powers."""

_TERM: Final = re.compile(r"-?[^+\-()]+")
_GROUP: Final = re.compile(r"(?P<common>[a-z*]+)\*\((?P<inner>[^)]*)\)|-?[^+\-()]+")


def _number(text: str) -> int | Fraction:
    """A coefficient: most are whole, and need no arithmetic of fractions, whose module takes as long to load as the
    tables."""
    if text.removeprefix("-").isdecimal():
        return int(text)
    from fractions import Fraction

    return Fraction(text)


def _joined(parts: list[str]) -> str:
    return "+".join(parts).replace("+-", "-")


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A polynomial in named sizes.

    Attributes:
        terms: the coefficient of each monomial; a monomial is its sorted size names, () the constant term.
    """

    terms: Mapping[Monomial, int | Fraction]

    @classmethod
    def constant(cls, value: int) -> Polynomial:
        """A constant polynomial."""
        return cls({(): value} if value else {})

    @classmethod
    def parse(cls, text: str) -> Polynomial:
        """Parse the output of `str`."""
        terms: dict[Monomial, int | Fraction] = {}
        for group in _GROUP.finditer(text):
            common = tuple(filter(None, (group["common"] or "").split("*")))
            for part in _TERM.findall(group["inner"] or group[0]):
                factor, *names = part.split("*")
                terms[tuple(sorted((*common, *names)))] = _number(factor)
        return cls(terms)

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __str__(self) -> str:
        groups: dict[Monomial, list[str]] = {}
        for names, factor in sorted(self.terms.items()):
            common = tuple(name for name in names if name in _COMMON)
            rest = (name for name in names if name not in _COMMON)
            groups.setdefault(common, []).append("*".join((str(factor), *rest)))
        found = (
            _joined(parts) if not common else f"{'*'.join(common)}*({_joined(parts)})"
            for common, parts in groups.items()
        )
        return "+".join(found)

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for names, factor in other.terms.items():
            terms[names] = terms.get(names, 0) + factor
        return Polynomial({names: factor for names, factor in terms.items() if factor})

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + other * -1

    def __mul__(self, other: Polynomial | int) -> Polynomial:
        if isinstance(other, int):
            return Polynomial({names: factor * other for names, factor in self.terms.items() if other})
        found = Polynomial({})
        for mine, factor in self.terms.items():
            for theirs, times in other.terms.items():
                found += Polynomial({tuple(sorted((*mine, *theirs))): factor * times})
        return found

    def at(self, sizes: Mapping[str, int]) -> int:
        """The value at the given sizes, rounded up to a whole byte.

        Raises:
            KeyError: a size is missing.
        """
        total: int | Fraction = 0
        for names, factor in self.terms.items():
            value = factor
            for name in names:
                value *= sizes[name]
            total += value
        return -int(-total // 1)  # rounded once

    def reduced(self, sizes: Mapping[str, int]) -> Polynomial:
        """The polynomial with the model's sizes filled in; only batch and token counts remain as names."""
        terms: dict[Monomial, int | Fraction] = {}
        for names, factor in self.terms.items():
            value = factor
            for name in names:
                value *= sizes.get(name, 1)
            left = tuple(name for name in names if name not in sizes)
            terms[left] = terms.get(left, 0) + value
        return Polynomial(terms)

    def describe(self) -> str:
        """The polynomial as a person would write it: `b × s × (16 hidden + 8 intermediate) + 4 key_dim × s`."""
        groups: dict[Monomial, list[str]] = {}
        for names, factor in sorted(self.terms.items(), key=lambda item: -item[1]):
            tokens = tuple(name for name in names if name in ("b", "s"))
            rest = " × ".join(name for name in names if name not in ("b", "s"))
            groups.setdefault(tokens, []).append(f"{factor} {rest}".rstrip())
        ordered = sorted(groups.items(), key=lambda item: -len(item[0]))
        return " + ".join(
            f"{' × '.join(tokens)} × ({' + '.join(parts)})" if tokens else " + ".join(parts)
            for tokens, parts in ordered
        )

    def quadratic(self) -> Polynomial:
        """The terms in tokens × tokens, or tokens × cached tokens."""
        return Polynomial(
            {names: factor for names, factor in self.terms.items() if sum(name in _TOKENS for name in names) > 1}
        )

    @property
    def names(self) -> frozenset[str]:
        """The names of the sizes it depends on."""
        return frozenset(name for names in self.terms for name in names)
