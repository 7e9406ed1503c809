"""Timelines whose length depends on the sizes, because of loops over tokens or chunks.

The storages that one source line allocates with one shape form a role, in any iteration of the loop. The bytes of a
role are a product of sizes like those of any tensor; its count grows linearly with the tokens or chunks.
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
"""A source line's storages of one shape, identified by the order in which its shapes first occurred. If the number of
shapes differs between probes, a single storage by its order (bitwise inverted), or all of them together (None)."""

_OFTEN = 4
"""How many iterations of a line are examined: half of them the first, half the last."""

_ALTERNATING = 2  # of every so many layers of an encoder, one runs otherwise

_NEAR = 0.7
_WEIGHTS = (1, 8, 64)


def _group(allocation: Allocation) -> Group:
    """The line of a storage. The layers of an encoder, of which some probes have more, are one part, but for the
    backward pass of the last one."""
    phase, number = allocation.segment
    segment: Segment = allocation.segment
    if phase == "encoder":
        segment = ("before", 0)
    elif phase == "decoded" and number:
        segment = ("after", 0)
    return segment, allocation.op, allocation.site, allocation.itemsize


@dataclass(frozen=True, slots=True)
class _Kinds:
    """The shapes of each group in one timeline by first occurrence, and its storages by order of allocation."""

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
    """The roles of several timelines, matched with each other.

    Args:
        readings: the timelines used in the fit.
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
                kind = ~kinds.ordinals[number]  # two shapes coincide at some probe
            known[number] = (group, kind)
        return known[number]

    def counts(self, selection: Sequence[frozenset[int]]) -> dict[Role, Vector]:
        """The number of storages of each role in a selection at each probe; for a role of several shapes, the bytes."""
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
        """One storage of a role at each probe; for a role of several shapes, all of them."""
        group, kind = role
        if kind is None:
            return TensorRecord(nbytes=count, shapes=((),) * len(count), itemsize=group[3])
        first = [kinds.first[group, kind] if kind >= 0 else kinds.members[group][~kind] for kinds in self._kinds]
        return TensorRecord(
            nbytes=tuple(one.nbytes for one in first), shapes=tuple(one.shape for one in first), itemsize=group[3]
        )


def linear(vector: Vector, sizes: Mapping[str, Vector]) -> Polynomial | None:
    """A number of iterations as a constant, or as a linear function of one size; None if it is neither."""
    if len(set(vector)) == 1:
        return Polynomial.constant(vector[0])
    for name, values in sizes.items():
        low, high = values.index(min(values)), values.index(max(values))
        if values[low] == values[high]:
            continue
        slope = Fraction(vector[high] - vector[low], values[high] - values[low])
        start = vector[low] - slope * values[low]
        whole = slope.denominator <= _ALTERNATING and start.denominator == 1
        if whole and all(slope * x + start == y for x, y in zip(values, vector, strict=True)):
            return Polynomial({(name,): slope}) + Polynomial.constant(int(start))
    return None


def landmarks(readings: Sequence[Reading], segment: Segment) -> list[tuple[frozenset[int], ...]]:
    """Moments of a part that occur in all timelines, as the storages alive then: where something is freed right after
    an allocation, in the first and last iterations; in all, where the part runs the same in all timelines. Moments far
    below the peak under any weighting are omitted."""
    lines = [_lines(reading, segment) for reading in readings]
    alike = all([*map(len, one.values())] == [*map(len, lines[0].values())] for one in lines)
    marked = [_marks(one, whole=alike and one.keys() == lines[0].keys()) for one in lines]
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


def _lines(reading: Reading, segment: Segment) -> dict[Group, list[tuple[int, int, int]]]:
    """Position, bytes of activations and bytes of gradients at each local peak, by line."""
    found: dict[Group, list[tuple[int, int, int]]] = {}
    for position, newest, others, own in reading.rises(segment):
        found.setdefault(_group(reading.timeline.allocations[newest]), []).append((position, others, own))
    return found


def _marks(lines: Mapping[Group, Sequence[tuple[int, int, int]]], *, whole: bool) -> dict[object, tuple[int, int, int]]:
    """Local peaks by line and iteration: the first and last iterations, or all (`whole`)."""
    marks: dict[object, tuple[int, int, int]] = {}
    for group, turns in lines.items():
        for turn in range(len(turns) if whole else min(len(turns), _OFTEN // 2)):
            marks[group, turn] = turns[turn]
            marks[group, ~turn] = turns[~turn]
    return marks


def _alive(reading: Reading, segment: Segment, positions: Sequence[int]) -> Iterator[frozenset[int]]:
    known = reading.alive(segment, frozenset(positions))
    return (known[position] for position in positions)
