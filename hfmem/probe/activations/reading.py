"""What a timeline says: which storages a part of the model keeps, and which are alive at its highest moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from hfmem.probe.activations.step import Mode, Timeline
from hfmem.probe.activations.tracer import Phase, Segment

__all__ = ["Reading"]


class Reading:
    """One timeline, by parts."""

    def __init__(self, timeline: Timeline, mode: Mode) -> None:
        self.timeline, self.mode = timeline, mode

    @property
    def layer_phase(self) -> Phase:
        """Where a layer's moments are looked for."""
        return "backward" if self.mode.trains else "forward"

    @cached_property
    def kept(self) -> frozenset[int]:
        """Alive once the layers (in training, the loss too) are done; without the cache."""
        if self.mode.trains:
            return self.timeline.kept
        live: set[int] = set()
        for allocated, number, segment in self.timeline.events:
            if segment[0] == "head" and allocated:
                break
            (live.add if allocated else live.discard)(number)
        return frozenset(live) - self.timeline.given - self.timeline.cache

    @cached_property
    def _by_owner(self) -> dict[Segment, set[int]]:
        """What is kept, by the part it belongs to: where it was allocated; a layer's input belongs to that layer. What
        leads into the first layer of a prefill belongs to no layer: where it is kept, that is until the end. What the
        last layer of a prefill leaves belongs to the head: a variable of the loop, which each layer overwrites."""
        depth = self.timeline.depth
        inputs: dict[int, Segment] = {
            number: ("head", 0) if index == depth else ("forward", index)
            for index, number in self.timeline.inputs.items()
            if index or self.mode.trains
        }
        found: dict[Segment, set[int]] = {}
        for number in self.kept:
            owner = inputs.get(number, self.timeline.allocations[number].segment)
            if owner == ("forward", depth - 1) and not self.mode.trains:
                owner = ("head", 0)
            found.setdefault(owner, set()).add(number)
        return found

    def kept_in(self, segment: Segment) -> frozenset[int]:
        """What a part keeps."""
        return frozenset(self._by_owner.get(segment, ()))

    def bytes(self, numbers: Iterable[int]) -> int:
        """Bytes of some storages."""
        return sum(self.timeline.allocations[number].nbytes for number in numbers)

    def peaks(self, segment: Segment) -> list[frozenset[int]]:
        """What is alive whenever a part frees something after it allocated, but for what other parts answer for."""
        elsewhere = self._elsewhere(segment)
        live: set[int] = set()
        found: dict[frozenset[int], None] = {}
        rising = False
        for allocated, number, where in self.timeline.events:
            if where == segment and not allocated and rising:
                found[frozenset(live)] = None
            rising = allocated and where == segment
            if number not in elsewhere:
                (live.add if allocated else live.discard)(number)
        return list(found)

    def peak(self, segment: Segment) -> frozenset[int]:
        """The highest of them in bytes."""
        elsewhere = self._elsewhere(segment)
        size, highest, at = 0, -1, 0
        for position, (allocated, number, where) in enumerate(self.timeline.events):
            if number in elsewhere:
                continue
            size += self.timeline.allocations[number].nbytes * (1 if allocated else -1)
            if where == segment and size > highest:
                highest, at = size, position
        live: set[int] = set()
        for allocated, number, _ in self.timeline.events[: at + 1]:
            if number not in elsewhere:
                (live.add if allocated else live.discard)(number)
        return frozenset(live)

    def rises(self, segment: Segment) -> Iterator[tuple[int, int, int, int]]:
        """Whenever a part frees something after it allocated: the number of the event before, the storage that was
        allocated last, and bytes alive of all but gradients, and of the part's own gradients."""
        elsewhere, gradients = self._elsewhere(segment), self.timeline.gradients
        others = own = 0
        newest: int | None = None
        for position, (allocated, number, where) in enumerate(self.timeline.events):
            if where == segment and not allocated and newest is not None:
                yield position, newest, others, own
            newest = number if allocated and where == segment else None
            if number in elsewhere:
                continue
            change = self.timeline.allocations[number].nbytes * (1 if allocated else -1)
            if number in gradients:
                own += change
            else:
                others += change

    def alive(self, segment: Segment, positions: frozenset[int]) -> dict[int, frozenset[int]]:
        """What is alive before some events, but for what other parts answer for."""
        elsewhere = self._elsewhere(segment)
        live: set[int] = set()
        found: dict[int, frozenset[int]] = {}
        for position, (allocated, number, _) in enumerate(self.timeline.events):
            if position in positions:
                found[position] = frozenset(live)
            if number not in elsewhere:
                (live.add if allocated else live.discard)(number)
        return found

    def _elsewhere(self, segment: Segment) -> frozenset[int]:
        """Storages that other parts answer for: weights, what earlier parts keep, others' caches and gradients."""
        phase, index = segment
        last = self.timeline.depth if phase == "head" else index
        earlier: list[Segment] = [("before", 0), *(("forward", number) for number in range(last))]
        earlier = [] if phase == "before" else earlier
        kept = frozenset().union(*(self.kept_in(part) for part in earlier))
        allocations = self.timeline.allocations
        results = self.timeline.gradients | self.timeline.cache
        others = {number for number in results if allocations[number].segment != segment}
        return kept | others | self.timeline.given
