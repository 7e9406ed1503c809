"""Evaluates a timeline: the storages that each part of the model saves, and those alive at its highest moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from hfmem.probe.activations.step import Mode, Timeline
from hfmem.probe.activations.tracer import Phase, Segment

__all__ = ["Reading"]


class Reading:
    """One timeline, evaluated by parts of the model."""

    def __init__(self, timeline: Timeline, mode: Mode) -> None:
        self.timeline, self.mode = timeline, mode

    @property
    def layer_phase(self) -> Phase:
        """The phase in which a layer has its peak."""
        return "backward" if self.mode.trains else "forward"

    @cached_property
    def kept(self) -> frozenset[int]:
        """Storages alive after the last layer (in training, after the loss), without weights and cache."""
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
        """The saved storages by the part that they count with. That is the part that allocated them, except that a
        layer's input counts with this layer. In a prefill, the input of the first layer counts with no layer, as it is
        saved until the end if at all, and what the last layer leaves counts with the head: it is in a loop variable
        that every other layer overwrites."""
        depth = self.timeline.depth
        inputs: dict[int, Segment] = {
            number: ("head", 0) if index == depth else ("forward", index)
            for index, number in self.timeline.inputs.items()
            if index or self.mode.trains
        }
        inputs |= {
            number: ("before", 0) if index < 0 else ("encoder", index)
            for index, number in self.timeline.encoder.items()
        }
        found: dict[Segment, set[int]] = {}
        for number in self.kept:
            owner = inputs.get(number, self.timeline.allocations[number].segment)
            if owner == ("forward", depth - 1) and not self.mode.trains:
                owner = ("head", 0)
            found.setdefault(owner, set()).add(number)
        return found

    def kept_in(self, segment: Segment) -> frozenset[int]:
        """The storages that a part saves; before the decoder's layers, those of an encoder's layers too."""
        found = frozenset(self._by_owner.get(segment, ()))
        if segment[0] != "before":
            return found
        return found.union(*(numbers for part, numbers in self._by_owner.items() if part[0] == "encoder"))

    def bytes(self, numbers: Iterable[int]) -> int:
        """Bytes of some storages."""
        return sum(self.timeline.allocations[number].nbytes for number in numbers)

    def peaks(self, segment: Segment) -> list[frozenset[int]]:
        """The storages alive at each local peak of a part (a free after an allocation), without those that count with
        other parts."""
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
        """The storages alive at the highest peak in bytes."""
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
        """Each local peak of a part (a free after an allocation): the number of the event, the storage allocated last,
        the live bytes without gradients, and the bytes of the part's own gradients."""
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
        """The storages alive before some events, without those that count with other parts."""
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
        """Storages that do not count with a part: weights, what earlier parts saved, others' caches and gradients."""
        phase, index = segment
        if phase == "decoded":
            return self._elsewhere_in_encoder(segment)
        last = self.timeline.depth if phase == "head" else index
        earlier: list[Segment] = [("before", 0), *(("forward", number) for number in range(last))]
        earlier = [] if phase == "before" else earlier
        kept = frozenset().union(*(self.kept_in(part) for part in earlier))
        allocations = self.timeline.allocations
        results = self.timeline.gradients | self.timeline.cache
        others = {number for number in results if allocations[number].segment != segment}
        return kept | others | self.timeline.given

    def _elsewhere_in_encoder(self, segment: Segment) -> frozenset[int]:
        """The same for the backward pass of a layer of an encoder: of what was saved before, only the layers between it
        and the first one count elsewhere, as most of the rest is gone."""
        first = max(self.timeline.encoder)
        between = (self.kept_in(("encoder", number)) for number in range(segment[1] + 1, first))
        allocations = self.timeline.allocations
        others = {number for number in self.timeline.gradients if allocations[number].segment != segment}
        return frozenset().union(*between) | others | self.timeline.given
