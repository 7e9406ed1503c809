"""From bytes measured at several sizes to a polynomial in these sizes.

Each tensor is solved separately: its bytes, or each of its dimensions, are compared with products of sizes at every
probe. As sizes are drawn independently, a product that matches at all probes is the tensor's shape and no coincidence.
Probes held back from the fit verify the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations_with_replacement
from math import gcd, prod

import numpy as np

from hfmem.estimator.activations.polynomials import Monomial, Polynomial

__all__ = ["Solver", "TensorRecord"]

Vector = tuple[int, ...]

_TOKENS: tuple[Monomial, ...] = (("b", "s"), ("b",), ("s",), (), ("b", "s", "s"), ("s", "s"))
_MULTIPLES = (1, 2, 3, 4)
_AT_ENDS = (2, 4)  # blocks of tokens at both ends of a sequence, which attend otherwise than those between
_LARGEST_DENOMINATOR = 64
_DEPTH = "num_hidden_layers"
_LEAST_DEPTH = 7  # a prime number of layers from here on is recognised as a factor, as nothing else is a multiple of it
_SMALL = 4  # a constant size is only recognised if it is larger, as small numbers may count parts of a tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRecord:
    """One storage at every probe.

    Attributes:
        nbytes: bytes of the storage at each probe.
        shapes: shape at each probe of the tensor that it was allocated for.
        itemsize: bytes per element.
    """

    nbytes: Vector
    shapes: tuple[tuple[int, ...], ...]
    itemsize: int


@dataclass(slots=True)
class Solver:
    """Recognises vectors of bytes as polynomials of named sizes.

    Attributes:
        sizes: the value of each size at each probe; `b` is the batch, `s` the tokens per sequence.
        copied: the name of the size for the number of query heads that keys and values are repeated for.
    """

    sizes: Mapping[str, Vector]
    copied: str = "repeated_heads"
    _names: tuple[str, ...] = field(init=False)
    _constants: tuple[str, ...] = field(init=False)
    _products: dict[Vector, Monomial] = field(init=False, default_factory=dict)
    _degree: int = field(init=False, default=-1)
    _known: dict[object, Polynomial | None] = field(init=False, default_factory=dict)
    _atoms: tuple[list[tuple[Monomial, int]], np.ndarray] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        seen: set[Vector] = {self.sizes["b"], self.sizes["s"]}
        names = []
        for name, vector in self.sizes.items():
            if (
                name in ("b", "s", "grouped_heads", "repeated_heads")
                or len(set(vector)) == 1
                or vector in seen
                or 0 in vector
            ):
                continue
            seen.add(vector)
            names.append(name)
        self._names = tuple(names)
        constants = {vector[0]: name for name, vector in reversed([*self.sizes.items()]) if len(set(vector)) == 1}
        self._constants = tuple(name for value, name in constants.items() if value > _SMALL)

    @property
    def probes(self) -> int:
        """The number of probes."""
        return len(self.sizes["b"])

    def tensor(self, record: TensorRecord) -> Polynomial | None:
        """The bytes of a storage as a polynomial; None if no product or sum of sizes matches at all probes."""
        if record not in self._known:
            self._known[record] = self._tensor(record)
        return self._known[record]

    def _tensor(self, record: TensorRecord) -> Polynomial | None:
        elements = tuple(n // record.itemsize for n in record.nbytes)
        found = (
            self._copied(elements, record.shapes)
            or self._product(elements)
            or self._by_dimensions(elements, record.shapes)
            or self._by_width(elements)
        )
        return None if found is None else self._with_depth(found * record.itemsize)

    def _with_depth(self, found: Polynomial) -> Polynomial:
        """The polynomial with the number of layers as a variable, if a factor is a multiple of it. The number is the
        same at all probes, so it first appears as part of a constant factor."""
        depth = self.sizes.get(_DEPTH, (0,))[0]
        if depth < _LEAST_DEPTH or any(depth % factor == 0 for factor in range(2, depth)):
            return found
        terms: dict[Monomial, int | Fraction] = {}
        for names, factor in found.terms.items():
            many = names and factor % depth == 0
            terms[tuple(sorted((*names, _DEPTH))) if many else names] = factor // depth if many else factor
        return Polynomial(terms)

    def _copied(self, elements: Vector, shapes: Sequence[tuple[int, ...]]) -> Polynomial | None:
        """Keys or values repeated for each query head of a group: batch × KV heads × group size × other dimensions."""
        kv_heads, heads = self.sizes.get("kv_heads"), self.sizes.get("heads")
        if kv_heads is None or heads is None or {len(shape) for shape in shapes} != {5}:
            return None
        kept = tuple(shape[1] for shape in shapes)
        if kept != tuple(kv_heads) or tuple(shape[1] * shape[2] for shape in shapes) != tuple(heads):
            return None
        rest = self._product(tuple(n // count for n, count in zip(elements, heads, strict=True)))
        if rest is None:  # e.g. a window with a few more tokens, which is a sum
            own = tuple((shape[0], *shape[3:]) for shape in shapes)
            rest = self._by_dimensions(tuple(prod(shape) for shape in own), own)
        return None if rest is None else rest * Polynomial({(self.copied,): Fraction(1)})

    def _by_dimensions(self, elements: Vector, shapes: Sequence[tuple[int, ...]]) -> Polynomial | None:
        if len({len(shape) for shape in shapes}) != 1 or any(
            prod(shape) != n for shape, n in zip(shapes, elements, strict=True)
        ):
            return None
        dimensions = list(zip(*shapes, strict=True))
        factors = [self.dimension(dimension) for dimension in dimensions]
        unknown = [index for index, factor in enumerate(factors) if factor is None]
        if not unknown:
            return prod((factor for factor in factors if factor is not None), start=Polynomial.constant(1))
        return self._by_two(dimensions, factors, unknown)

    def _by_two(
        self, dimensions: Sequence[Vector], factors: Sequence[Polynomial | None], unknown: Sequence[int]
    ) -> Polynomial | None:
        """Two dimensions together, one of which has no name or both: the width of a head, and the number of heads."""
        others = [index for index, one in enumerate(dimensions) if index not in unknown and len(set(one)) > 1]
        pairs = [(unknown[0], other) for other in others] if len(unknown) == 1 else [tuple(unknown)]
        for pair in (pair for pair in pairs if len(pair) == 2):
            both = self.dimension(tuple(map(prod, zip(*(dimensions[index] for index in pair), strict=True))))
            if both is not None:
                rest = (factor for index, factor in enumerate(factors) if index not in pair and factor is not None)
                return prod(rest, start=both)
        return None

    def dimension(self, vector: Vector) -> Polynomial | None:
        """One dimension of a tensor as a polynomial; None if nothing matches."""
        if vector not in self._known:
            found = self._product(vector) or self._sum(vector)
            self._known[vector] = found or self._of_each_sequence(vector) or self._with_more_tokens(vector)
        return self._known[vector]

    def _of_each_sequence(self, vector: Vector) -> Polynomial | None:
        """A sum of sizes for each sequence of a batch, or for each unit of another size in each sequence."""
        if len(set(self.sizes["b"])) == 1:
            return None
        for monomial in (("b",), *(tuple(sorted(("b", name))) for name in self._names)):
            values = self._values(monomial)
            if all(n % unit == 0 for n, unit in zip(vector, values, strict=True)):
                found = self._sum(tuple(n // unit for n, unit in zip(vector, values, strict=True)))
                if found is not None:
                    return found * Polynomial({monomial: Fraction(1)})
        return None

    def _with_more_tokens(self, vector: Vector) -> Polynomial | None:
        """All tokens, and a number of further ones (registers) in each sequence."""
        for tokens in (("s",), ("b", "s")):
            further = {n - own for n, own in zip(vector, self._values(tokens), strict=True)}
            if len(further) == 1:
                return Polynomial({tokens: Fraction(1)}) + Polynomial.constant(further.pop())
        return None

    def _by_width(self, elements: Vector) -> Polynomial | None:
        """A sum of sizes, multiplied by tokens."""
        for tokens in _TOKENS:
            factor = self._values(tokens)
            if all(n % f == 0 for n, f in zip(elements, factor, strict=True)):
                width = self.dimension(tuple(n // f for n, f in zip(elements, factor, strict=True)))
                if width is not None:
                    return width * Polynomial({tokens: Fraction(1)})
        return None

    def _product(self, vector: Vector) -> Polynomial | None:
        """A multiple of a single product of sizes."""
        if len(set(vector)) == 1:
            return Polynomial.constant(vector[0])
        direction = _direction(vector)
        for degree in range(4):
            self._extend(degree)
            monomial = self._products.get(direction)
            if monomial is not None:
                factor = Fraction(vector[0], self._values(monomial)[0])
                if factor.denominator <= _LARGEST_DENOMINATOR:
                    return Polynomial({monomial: factor})
        return None

    def _extend(self, degree: int) -> None:
        """Add all products of `degree` sizes, each with every power of tokens."""
        if degree <= self._degree:
            return
        self._degree = degree
        for sizes in combinations_with_replacement(self._names, degree):
            for tokens in _TOKENS:
                monomial = tuple(sorted((*tokens, *sizes)))
                self._products.setdefault(_direction(self._values(monomial)), monomial)

    def _values(self, monomial: Monomial) -> Vector:
        return tuple(prod(self.sizes[name][probe] for name in monomial) for probe in range(self.probes))

    def _sum(self, vector: Vector) -> Polynomial | None:
        """A sum of two or three multiples of products."""
        atoms, matrix = self._atom_table()
        weights = np.array([(1_000_003 * (k + 1)) ** 2 + k for k in range(self.probes)], dtype=np.int64)
        hashes = matrix @ weights
        target = np.int64(np.dot(np.array(vector, dtype=np.int64), weights))
        order = np.argsort(hashes)
        ranked = hashes[order]
        for picked in (_pairs(target, hashes, ranked, order), _triples(target, hashes, ranked, order)):
            for indices in picked:
                if tuple(int(x) for x in matrix[list(indices)].sum(axis=0)) == vector:
                    return sum((Polynomial({atoms[i][0]: Fraction(atoms[i][1])}) for i in indices), Polynomial({}))
        return None

    def _atom_table(self) -> tuple[list[tuple[Monomial, int]], np.ndarray]:
        if self._atoms is None:
            monomials: list[Monomial] = [(), ("s",), ("b",), ("b", "s")]
            monomials += [(name,) for name in (*self._names, *self._constants)]
            monomials += [tuple(sorted(pair)) for pair in combinations_with_replacement(self._names, 2)]
            fixed: set[Monomial] = {(), *((name,) for name in self._constants)}
            atoms = [(m, c) for m in monomials for c in ((-1, *_MULTIPLES) if m in fixed else _MULTIPLES)]
            atoms += [((), -count) for count in _AT_ENDS]
            rows = [[c * value for value in self._values(m)] for m, c in atoms]
            self._atoms = atoms, np.array(rows, dtype=np.int64)
        return self._atoms


def _pairs(target: np.int64, hashes: np.ndarray, ranked: np.ndarray, order: np.ndarray) -> Iterable[tuple[int, ...]]:
    wanted = target - hashes
    at = np.minimum(np.searchsorted(ranked, wanted), len(ranked) - 1)
    for first in np.nonzero(ranked[at] == wanted)[0]:
        yield int(first), int(order[at[first]])


def _triples(target: np.int64, hashes: np.ndarray, ranked: np.ndarray, order: np.ndarray) -> Iterable[tuple[int, ...]]:
    for first in range(len(hashes)):
        wanted = target - hashes[first] - hashes
        at = np.minimum(np.searchsorted(ranked, wanted), len(ranked) - 1)
        for second in np.nonzero(ranked[at] == wanted)[0]:
            yield first, int(second), int(order[at[second]])


def _direction(vector: Vector) -> Vector:
    divisor = gcd(*vector)
    return tuple(value // divisor for value in vector)
