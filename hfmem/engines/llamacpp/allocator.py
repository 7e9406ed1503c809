"""The memory that a graph takes on each device, by the rules of ggml's scheduler and graph allocator.

Source: `ggml_backend_sched_split_graph` of ggml-backend.cpp (which operation runs where, and what is copied for it)
and `ggml_gallocr_alloc_graph_impl` of ggml-alloc.c (best fit, and results that take the place of what they are made
of), llama.cpp 0.5.0. Views take no memory and are not among the steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

__all__ = ["HOST", "Device", "Step", "assigned", "compute_buffers"]

HOST: Final = -1
"""The place of the processor, after all devices."""

_OFFLOADED_ROWS: Final = 32
"""Rows from which on an operation on the host's weights is run on a GPU (`min_batch_size` of ggml-cuda.cu)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """How a kind of device takes part.

    Attributes:
        alignment: of its buffers, bytes.
        offloads: whether it runs operations of large batches whose weights lie on the host, and copies these.
        row_padding: elements to whose multiple it pads the last row of a quantised matrix.
    """

    alignment: int = 32
    offloads: bool = False
    row_padding: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An operation with sizes in bytes, or an input.

    Attributes:
        nbytes: what it allocates; None where it writes into memory that is there.
        reads: places of steps it reads, once for each reading; inputs are -1 and below, the first -1.
        replaces: those of `reads` whose memory it may take.
        place: the device where its weights or its cache are, `HOST`, or None: where its neighbours run.
        copied: names and bytes of weights on the host, which are copied where it is offloaded.
        borrowed: names and bytes of caches on the host that it reads, which are copied where it runs on a device.
        apart: bytes of the view by which it reads the first of `reads`, which is copied for it alone; None for a whole
            that others read too.
        matrix_first: whether `copied` and `borrowed` come before all that it reads, not after the first of it.
        rows: of its result, which decide whether it is offloaded; 0 for operations that never are.
        output: whether it is kept to the end.
    """

    nbytes: int | None
    reads: tuple[int, ...]
    replaces: tuple[int, ...] = ()
    place: int | None = None
    copied: tuple[tuple[str, int], ...] = ()
    borrowed: tuple[tuple[str, int], ...] = ()
    apart: int | None = None
    matrix_first: bool = False
    rows: int = 0
    output: bool = False


@dataclass(slots=True)
class _Buffer:
    """`ggml_dyn_tallocr`: free blocks in order of their place, the last without an end."""

    alignment: int
    free: list[list[int]] = field(default_factory=lambda: [[0, 1 << 62]])
    most: int = 0

    def take(self, size: int) -> int:
        """The place of `size` bytes: the smallest block they fit in, else the end."""
        size = -(-size // self.alignment) * self.alignment
        fits = [block for block in self.free[:-1] if block[1] >= size]
        # of blocks of one size the last is taken
        block = min(reversed(fits), key=lambda each: each[1]) if fits else self.free[-1]
        offset = block[0]
        block[0] += size
        block[1] -= size
        if not block[1]:
            self.free.remove(block)
        self.most = max(self.most, offset + size)
        return offset

    def give(self, offset: int, size: int) -> None:
        """Free a block, which joins the first that it touches, and that one's neighbour: where a block of no size lies
        between two, they stay apart, as in `ggml_dyn_tallocr_free_bytes`."""
        size = -(-size // self.alignment) * self.alignment
        free = self.free
        for at, block in enumerate(free):
            if block[0] + block[1] == offset:
                block[1] += size
                if at + 1 < len(free) and block[0] + block[1] == free[at + 1][0]:
                    block[1] += free.pop(at + 1)[1]
                return
            if offset + size == block[0]:
                block[:] = [offset, block[1] + size]
                if at and sum(free[at - 1]) == offset:
                    free[at - 1][1] += free.pop(at)[1]
                return
        # insert_block: before the first that lies behind
        at = next((number for number, block in enumerate(free) if block[0] >= offset), len(free))
        free.insert(at, [offset, size])


def compute_buffers(
    inputs: Sequence[int],
    steps: Sequence[Step],
    devices: Sequence[Device],
    *,
    copies: int = 1,
    homes: Mapping[int, int] = MappingProxyType({}),
) -> tuple[int, ...]:
    """The compute buffer of each device, then that of the host, in bytes.

    Args:
        inputs: bytes of the graph's inputs, which are made on the host.
        steps: the operations, in order.
        devices: the accelerators, in the order of layers.
        homes: the devices of inputs that are made elsewhere, by their place among `inputs`: of what no one fills in.
        copies: of inputs, where several devices work on several batches at once (`pipeline_parallel`).
    """
    host = len(devices)
    places = assigned(steps, devices)
    buffers = [_Buffer(alignment=device.alignment) for device in devices] + [_Buffer(alignment=32)]
    at = [(size, homes.get(number, host)) for number, size in enumerate(inputs)]
    plan = _Plan(inputs=at, steps=steps, places=places, host=host, copies=copies)
    plan.run(buffers)
    return tuple(buffer.most for buffer in buffers)


def assigned(steps: Sequence[Step], devices: Sequence[Device], *, small: bool = False) -> list[int]:
    """The device of each step, the number of devices for the host: that of its weights, else of its neighbours,
    accelerators first.

    Args:
        steps: the operations, in order.
        devices: the accelerators.
        small: whether a batch is too small for a device to run what the host's weights are for.
    """
    host = len(devices)
    least = 1 << 62 if small else _OFFLOADED_ROWS
    offloading = next((number for number, device in enumerate(devices) if device.offloads), None)
    places: list[int | None] = [_own(step, host, offloading, least) for step in steps]
    order = range(len(steps))
    _spread(places, order, host, host_too=False)
    _spread(places, reversed(order), host, host_too=False)
    _spread(places, order, host, host_too=True)
    _spread(places, reversed(order), host, host_too=True)
    return [host if place is None else place for place in places]


def _own(step: Step, host: int, offloading: int | None, least: int) -> int | None:
    if step.place is None or step.place != HOST:
        return step.place
    return offloading if offloading is not None and step.copied and step.rows >= least else host


def _spread(places: list[int | None], order: Iterable[int], host: int, *, host_too: bool) -> None:
    """Give each step without a place that of the one before it in this order; the host's only in the second round."""
    current: int | None = None
    for number in order:
        place = places[number]
        if place is not None:
            current = place if host_too or place != host else None
        elif current is not None:
            places[number] = current


def _sources(step: Step) -> Iterator[int | tuple[str, int]]:
    """What a step reads in the order of its sources: steps and inputs, and names and bytes of what lies on the host. A
    product has its matrix first, attention its queries before keys and values."""
    outside = (*step.copied, *step.borrowed)
    first = step.reads[: 0 if step.matrix_first else 1]
    yield from first
    yield from outside
    yield from step.reads[len(first) :]


_Copy = tuple[str, Hashable, int]
"""A copy: its kind, what it is of, and its device."""


class _Plan:
    """One run through the steps: what is made, copied to another device, and let go."""

    def __init__(
        self,
        *,
        inputs: Sequence[tuple[int, int]],
        steps: Sequence[Step],
        places: list[int],
        host: int,
        copies: int,
    ) -> None:
        self.steps, self.places, self.host, self.copies = steps, places, host, copies
        self.sizes: dict[Hashable, int] = {-1 - number: size for number, (size, _) in enumerate(inputs)}
        self.home: dict[Hashable, int] = {-1 - number: home for number, (_, home) in enumerate(inputs)}
        self.kept: set[Hashable] = {number for number, step in enumerate(steps) if step.output}
        self.at: dict[Hashable, tuple[int, int]] = {}
        self.reads, self.splits = self._split()
        self.uses = Counter(read for reads in self.reads for read in reads)
        for copied in self.splits.values():
            self.uses.update(source for source, _ in copied if isinstance(source, int))

    def _split(self) -> tuple[list[tuple[Hashable, ...]], dict[int, list[tuple[Hashable, Hashable]]]]:
        """What each step reads where it runs, and what is copied before the step that begins a split."""
        reads: list[tuple[Hashable, ...]] = []
        splits: dict[int, list[tuple[Hashable, Hashable]]] = {}
        start, current = 0, self.places[0] if self.places else self.host
        for number, step in enumerate(self.steps):
            place = self.places[number]
            new_weights = [name for name, _ in step.copied if place != self.host]
            if place != current or (splits.get(start) and new_weights):
                start, current = number, place
            here: list[Hashable] = []
            for source in _sources(step):
                if isinstance(source, tuple) and place == self.host:
                    continue
                if not isinstance(source, tuple) and self._place_of(source) == place:
                    here.append(source)
                else:
                    copied = splits.setdefault(start, [])
                    here.append(self._copy(copied, *self._copied(number, source)))
            reads.append(tuple(here))
        return reads, splits

    def _copied(self, number: int, source: int | tuple[str, int]) -> tuple[_Copy, int]:
        """The copy of a source on the device of a step, and its bytes: one for all who read it, another of an empty
        view of it, and one of a view that a step has for itself."""
        step, place = self.steps[number], self.places[number]
        if isinstance(source, tuple):
            return ("copy", source[0], place), source[1]
        if step.apart is not None and source == step.reads[0]:
            return (f"view {number}", source, place), step.apart
        if source < 0 and step.nbytes == 0:  # no rows: a view of the input without any
            return ("empty copy", source, place), 0
        return ("copy", source, place), self._size_of(source)

    def _copy(self, copied: list[tuple[Hashable, Hashable]], copy: _Copy, size: int) -> Hashable:
        """A copy, made once for the whole graph."""
        if copy not in self.sizes:
            _, source, place = copy
            self.sizes[copy], self.home[copy] = size, place
            copied.append((source, copy))
        return copy

    def _place_of(self, read: int) -> int:
        return self.home[read] if read < 0 else self._home_of(read)

    def _home_of(self, number: int) -> int:
        """Where the memory of a step is: its own device."""
        return self.places[number]

    def _size_of(self, read: int) -> int:
        if read < 0:
            return self.sizes[read]
        return self.steps[read].nbytes or 0

    def run(self, buffers: list[_Buffer]) -> None:
        """Allocate and free in the order of the graph."""
        if self.copies > 1:
            self._ahead(buffers)
        for what in [each for each in self.sizes if isinstance(each, int) and each not in self.at]:
            self._make(buffers, what, self.home[what])
        for number, step in enumerate(self.steps):
            for source, copy in self.splits.get(number, ()):
                if isinstance(source, int):
                    self._let_go(buffers, source)
                if copy not in self.at:
                    self._make(buffers, copy, self.home[copy])
            if step.nbytes is not None:
                self._result(buffers, number, step)
            for read in self.reads[number]:
                self._let_go(buffers, read)

    def _ahead(self, buffers: list[_Buffer]) -> None:
        """Make all inputs and all copies so many times, to be kept: several batches are under way at once."""
        copied = [copy for each in self.splits.values() for _, copy in each]
        inputs: list[Hashable] = [each for each in self.sizes if isinstance(each, int)]
        for what in [*inputs, *copied]:
            for _ in range(self.copies):
                self._make(buffers, what, self.home[what])
            self.kept.add(what)

    def _make(self, buffers: list[_Buffer], what: Hashable, place: int) -> None:
        self.at[what] = (place, buffers[place].take(self.sizes[what]))

    def _result(self, buffers: list[_Buffer], number: int, step: Step) -> None:
        """Take the memory of what it replaces where nothing else reads that, else its own."""
        place = self.places[number]
        for read in step.replaces:
            here: Hashable = read if self._place_of(read) == place else ("copy", read, place)
            if here in self.at and here not in self.kept and self.uses[here] == 1:
                self.at[number] = self.at.pop(here)
                self.sizes[number] = step.nbytes or 0
                return
        self.sizes[number] = step.nbytes or 0
        self._make(buffers, number, place)

    def _let_go(self, buffers: list[_Buffer], read: Hashable) -> None:
        self.uses[read] -= 1
        if not self.uses[read] and read in self.at and read not in self.kept:
            place, offset = self.at.pop(read)
            buffers[place].give(offset, self.sizes[read])
