"""Timelines whose length depends on the sizes: loops over tokens or chunks run as often as there are some.

What one line of the implementation allocates with one shape is one role, whichever turn of the loop it was in. A role's
bytes are a product of sizes as any tensor's; how often it is there grows linearly with the tokens or the chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.probe.activations.algebra import TensorRecord, Vector
from hfmem.probe.activations.reading import Reading
from hfmem.probe.activations.tracer import Allocation, Segment

__all__ = ["Role", "Roles", "landmarks", "linear"]

Group = tuple[Segment, str, str, int]
Role = tuple[Group, int | None]
"""A line's storages of one shape, by the order in which its shapes came; where their number differs between probes, one
storage by its order (inverted), or all of them (None)."""

_OFTEN = 4
"""How many of a line's turns are looked at: of the first and of the last, half each."""

_NEAR = 0.7
_WEIGHTS = (1, 8, 64)


def _group(allocation: Allocation) -> Group:
    return allocation.segment, allocation.op, allocation.site, allocation.itemsize


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Of one timeline: the shapes of each group in the order in which they came, and its storages in that order."""

    shapes: Mapping[Group, Mapping[object, int]]
    members: Mapping[Group, Sequence[Allocation]]
    first: Mapping[tuple[Group, int], Allocation]
    ordinals: Sequence[int]

    @classmethod
    def of(cls, allocations: Sequence[Allocation]) -> _Kinds:
        shapes: dict[Group, dict[object, int]] = {}
        members: dict[Group, list[Allocation]] = {}
        first: dict[tuple[Group, int], Allocation] = {}
        ordinals = []
        for allocation in allocations:
            group = _group(allocation)
            kinds = shapes.setdefault(group, {})
            kind = kinds.setdefault((allocation.shape, allocation.nbytes), len(kinds))
            first.setdefault((group, kind), allocation)
            ordinals.append(len(members.setdefault(group, [])))
            members[group].append(allocation)
        return cls(shapes, members, first, ordinals)


class Roles:
    """The roles of several timelines, matched.

    Args:
        readings: those that take part in the fit.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings
        self._kinds = [_Kinds.of(reading.timeline.allocations) for reading in readings]
        self._found: list[dict[int, Role]] = [{} for _ in readings]

    def _role(self, probe: int, number: int) -> Role:
        known = self._found[probe]
        if number not in known:
            allocation = self._readings[probe].timeline.allocations[number]
            group, kinds = _group(allocation), self._kinds[probe]
            kind: int | None = None
            if len({len(one.shapes.get(group, ())) for one in self._kinds}) == 1:
                kind = kinds.shapes[group][allocation.shape, allocation.nbytes]
            elif len({len(one.members.get(group, ())) for one in self._kinds}) == 1:
                kind = ~kinds.ordinals[number]  # two shapes are one at some probe
            known[number] = (group, kind)
        return known[number]

    def counts(self, selection: Sequence[frozenset[int]]) -> dict[Role, Vector]:
        """How many storages of each role are in a selection, a number a probe; bytes of a role of several shapes."""
        counters: list[Counter[Role]] = []
        for probe, numbers in enumerate(selection[: len(self._readings)]):
            allocations = self._readings[probe].timeline.allocations
            counter: Counter[Role] = Counter()
            for number in numbers:
                role = self._role(probe, number)
                counter[role] += 1 if role[1] is not None else allocations[number].nbytes
            counters.append(counter)
        roles = dict.fromkeys(role for counter in counters for role in counter)
        return {role: tuple(counter[role] for counter in counters) for role in roles}

    def record(self, role: Role, count: Vector) -> TensorRecord:
        """One storage of a role at each probe; all of them, of a role of several shapes."""
        group, kind = role
        if kind is None:
            return TensorRecord(nbytes=count, shapes=((),) * len(count), itemsize=group[3])
        first = [kinds.first[group, kind] if kind >= 0 else kinds.members[group][~kind] for kinds in self._kinds]
        return TensorRecord(
            nbytes=tuple(one.nbytes for one in first), shapes=tuple(one.shape for one in first), itemsize=group[3]
        )


def linear(vector: Vector, sizes: Mapping[str, Vector]) -> Polynomial | None:
    """A number of turns: a constant, or a multiple of one size and a constant."""
    if len(set(vector)) == 1:
        return Polynomial.constant(vector[0])
    for name, values in sizes.items():
        low, high = values.index(min(values)), values.index(max(values))
        if values[low] == values[high]:
            continue
        slope = Fraction(vector[high] - vector[low], values[high] - values[low])
        start = vector[low] - slope * values[low]
        if slope.denominator == 1 and all(slope * x + start == y for x, y in zip(values, vector, strict=True)):
            return Polynomial({(name,): slope}) + Polynomial.constant(int(start))
    return None


def landmarks(readings: Sequence[Reading], segment: Segment) -> list[tuple[frozenset[int], ...]]:
    """Moments of a part that all timelines have, as what is alive then: when something is freed after a line allocated,
    in its first and last turns. Those that are far from the highest whatever weighs most are left out."""
    marked = [_marks(reading, segment) for reading in readings]
    shared = [mark for mark in marked[0] if all(mark in other for other in marked[1:])]
    near: dict[object, None] = {}
    for marks in marked:
        for weight in _WEIGHTS:
            heights = {mark: marks[mark][1] + weight * marks[mark][2] for mark in shared}
            least = _NEAR * max(heights.values(), default=0)
            near |= dict.fromkeys(mark for mark, height in heights.items() if height >= least)
    chosen = [mark for mark in shared if mark in near]
    alive = [
        _alive(reading, segment, [marks[mark][0] for mark in chosen])
        for reading, marks in zip(readings, marked, strict=True)
    ]
    return list(dict.fromkeys(zip(*alive, strict=True)))


def _marks(reading: Reading, segment: Segment) -> dict[object, tuple[int, int, int]]:
    """Position, bytes of activations and of gradients at each peak, by line and turn."""
    found: dict[Group, list[tuple[int, int, int]]] = {}
    for position, newest, others, own in reading.rises(segment):
        found.setdefault(_group(reading.timeline.allocations[newest]), []).append((position, others, own))
    marks: dict[object, tuple[int, int, int]] = {}
    for group, turns in found.items():
        for turn in range(min(len(turns), _OFTEN // 2)):
            marks[group, turn] = turns[turn]
            marks[group, ~turn] = turns[~turn]
    return marks


def _alive(reading: Reading, segment: Segment, positions: Sequence[int]) -> Iterator[frozenset[int]]:
    known = reading.alive(segment, frozenset(positions))
    return (known[position] for position in positions)
