"""How MLX's memory goes up and down while it evaluates a graph.

The main thread hands out work faster than it is done, allocating each array as it goes, until more than
`MAX_ACTIVE_TASKS` tasks are unfinished; then it waits for the oldest (mlx 0.32, mlx/transforms.cpp). What a task reads
is freed when the task has finished. On Metal a task is a command buffer (mlx/backend/metal/device.cpp), on a processor
it is ten dispatches (mlx/backend/cpu/encoder.h).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hfmem.engines.mlx.graph import Node, tape

__all__ = ["CPU", "Backend", "Evaluator", "metal"]

_UNFINISHED: Final = 10  # MAX_ACTIVE_TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What ends a task.

    Attributes:
        title: its name in sentences.
        operations: kernels in a command buffer, beyond which it is committed (Metal).
        mebi: 2^20 elements of the arrays that a command buffer touches, beyond which it is committed (Metal).
        dispatches: dispatches in a task (processor); None on Metal.
    """

    title: str
    operations: int = 0
    mebi: int = 0
    dispatches: int | None = None

    @property
    def fused(self) -> bool:
        """Whether norms, rotary positions and attention are kernels of their own."""
        return self.dispatches is None


CPU: Final = Backend(title="MLX's CPU backend", dispatches=10)

_BASE: Final = Backend(title="Metal", operations=40, mebi=40)
_LARGE: Final = Backend(title="Metal", operations=50, mebi=50)


def metal(chip: str) -> Backend:
    """Metal on a chip, by its name: larger command buffers on Max and Ultra (`max_ops_per_buffer_` of
    mlx/backend/metal/device.cpp)."""
    return _LARGE if {"max", "ultra"} & set(chip.lower().split()) else _BASE


@dataclass(eq=False, slots=True)
class _Memory:
    """Memory of one or more arrays, freed with the last user."""

    nbytes: int
    elements: int
    users: int = 0


@dataclass(eq=False, slots=True)
class _Task:
    """A task that is not full yet."""

    holds: list[_Memory] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    elements: int = 0
    kernels: int = 0

    def touch(self, memory: _Memory, elements: int) -> None:
        """A kernel reads or writes an array."""
        if id(memory) not in self.touched:
            self.touched.add(id(memory))
            self.elements += elements


class Evaluator:
    """Memory over several evaluations.

    Attributes:
        active: bytes that are allocated, without arrays that are `free`.
        peak: the most that was allocated.
        made: tasks.
        waited: tasks that the main thread waited for before it went on.
    """

    def __init__(self, backend: Backend) -> None:
        self.active = 0
        self.peak = 0
        self.made = 0
        self.waited = 0
        self._backend = backend
        self._memory: dict[int, _Memory] = {}
        self._nodes: dict[int, Node] = {}  # keeps ids unique
        self._pending: dict[int, int] = {}
        self._done: set[int] = set()
        self._tasks: deque[list[_Memory]] = deque()
        self._open = _Task()
        self._dispatched = 0

    def hold(self, node: Node) -> Node:
        """Count an array that exists already."""
        self._of(node)
        return node

    def drop(self, node: Node) -> None:
        """Python lets go of an array."""
        node.held = False
        if not self._pending.get(id(node)):
            self._forget(node)

    def evaluate(self, outputs: Sequence[Node], *, wait: bool = True) -> None:
        """Compute arrays; with `wait`, until all is done, else the queue stays as it is (`async_eval`)."""
        order = tape(outputs, self._done)
        for node in order:
            for source in node.inputs:
                self._pending[id(source)] = self._pending.get(id(source), 0) + 1
                self._nodes[id(source)] = source
        for node in order:
            self._run(node)
        if wait:
            self.synchronize()

    def synchronize(self) -> None:
        """Wait until everything is done."""
        self._close()
        while self._tasks:
            self._finish()

    def _of(self, node: Node) -> _Memory:
        """The memory of an array that exists."""
        found = self._memory.get(id(node))
        if found is None:
            found = self._memory[id(node)] = _Memory(0 if node.free else node.nbytes, node.elements, users=1)
            self._nodes[id(node)] = node
            self._done.add(id(node))
            self._allocate(found.nbytes)
        return found

    def _allocate(self, nbytes: int) -> None:
        self.active += nbytes
        self.peak = max(self.peak, self.active)

    def _release(self, memory: _Memory) -> None:
        memory.users -= 1
        if not memory.users:
            self.active -= memory.nbytes

    def _run(self, node: Node) -> None:
        sources = [self._of(source) for source in node.inputs]
        memory = self._output(node, sources)
        memory.users += 1
        self._memory[id(node)] = memory
        self._nodes[id(node)] = node
        self._done.add(id(node))
        task = self._open
        held = {id(source): source for source in sources if source is not memory}
        if node.scratch:
            scratch = _Memory(node.scratch, 0)
            held[id(scratch)] = scratch
            self._allocate(node.scratch)
        for each in held.values():
            each.users += 1
            task.holds.append(each)
        if node.kernels:
            for source, each in zip(node.inputs, sources, strict=True):
                task.touch(each, source.elements)
            task.touch(memory, node.elements)
        self._count(node, task)
        for source in node.inputs:
            self._used(source)

    def _output(self, node: Node, sources: Sequence[_Memory]) -> _Memory:
        if node.view:
            return sources[0]
        for number in node.donors:
            source, memory = node.inputs[number], sources[number]
            alone = self._pending[id(source)] == 1 and not source.held and memory.users == 1
            if alone and memory.nbytes == node.nbytes:
                return memory
        self._allocate(node.nbytes)
        return _Memory(node.nbytes, node.elements)

    def _count(self, node: Node, task: _Task) -> None:
        """Close the task if it is full, and wait while too many are unfinished."""
        task.kernels += node.kernels
        if self._backend.dispatches is not None:
            before = self._dispatched
            self._dispatched += node.kernels + 1
            full = self._dispatched // self._backend.dispatches > before // self._backend.dispatches
        else:
            full = task.kernels > self._backend.operations or task.elements >> 20 > self._backend.mebi
        if full:
            self._close()
            while len(self._tasks) > _UNFINISHED:
                self._finish()
                self.waited += 1

    def _close(self) -> None:
        self.made += 1
        self._tasks.append(self._open.holds)
        self._open = _Task()

    def _finish(self) -> None:
        for memory in self._tasks.popleft():
            self._release(memory)

    def _used(self, source: Node) -> None:
        """An array of the graph was read; the last reader frees it."""
        self._pending[id(source)] -= 1
        if not self._pending[id(source)] and not source.held:
            self._forget(source)

    def _forget(self, node: Node) -> None:
        memory = self._memory.pop(id(node), None)
        if memory is not None:
            self._release(memory)
