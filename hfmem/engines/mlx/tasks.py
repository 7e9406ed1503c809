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

from hfmem.engines.mlx.graph import Memory, Node, tape

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
class _Task:
    """A task that is not full yet: memory that it touches, and what kernels it has."""

    holds: list[Memory] = field(default_factory=list)
    elements: int = 0
    kernels: int = 0


class Evaluator:
    """Memory over several evaluations.

    Attributes:
        active: bytes that are allocated, without weights.
        peak: the most that was allocated.
    """

    def __init__(self, backend: Backend) -> None:
        self.active = 0
        self.peak = 0
        self._backend = backend
        self._dropped: list[Node] = []
        self._tasks: deque[list[Memory]] = deque()
        self._open = _Task()
        self._dispatched = 0

    def hold(self, node: Node) -> Node:
        """Count an array that exists already."""
        self._of(node)
        return node

    def drop(self, node: Node) -> None:
        """Python lets go of an array; what is still to be computed may read it."""
        node.held = False
        self._dropped.append(node)

    def evaluate(self, outputs: Sequence[Node], *, wait: bool = True) -> None:
        """Compute arrays; with `wait`, until all is done, else the queue stays as it is (`async_eval`)."""
        order = tape(outputs)
        for node in self._dropped:
            if not node.pending:
                self._forget(node)
        self._dropped.clear()
        for node in order:
            self._run(node)
        if wait:
            self.synchronize()

    def synchronize(self) -> None:
        """Wait until everything is done."""
        self._close()
        while self._tasks:
            self._finish()

    def _of(self, node: Node) -> Memory:
        """The memory of an array that exists, or of one that comes into being."""
        found = node.memory
        if found is None:
            found = node.memory = self._allocated(node.nbytes)
            found.users = 1
            node.done = True
        return found

    def _allocated(self, nbytes: int) -> Memory:
        self.active += nbytes
        self.peak = max(self.peak, self.active)
        return Memory(nbytes, 0)

    def _release(self, memory: Memory) -> None:
        memory.users -= 1
        if not memory.users:
            self.active -= memory.nbytes

    def _run(self, node: Node) -> None:
        task = self._open
        memory = self._taken(node)
        memory.users += 1
        node.memory, node.done = memory, True
        for other in node.others:
            self._begin(other, task.holds)
        if node.scratch:
            scratch = self._allocated(node.scratch)
            scratch.users = 1
            task.holds.append(scratch)
        self._touch(node, memory, task)
        self._count(node.kernels, task)
        for source in node.inputs:
            if not source.free:
                source.pending -= 1
                if not source.pending and not source.held:
                    self._forget(source)

    def _touch(self, node: Node, memory: Memory, task: _Task) -> None:
        """Note what the task reads and writes."""
        kernels = node.kernels
        for source in node.inputs:
            if source.free:
                task.elements += source.elements if kernels else 0
                continue
            read = source.memory or self._of(source)
            if read is not memory:
                read.users += 1
                task.holds.append(read)
            if kernels and read.task is not task:
                read.task = task
                task.elements += source.elements
        if kernels and memory.task is not task:
            memory.task = task
            task.elements += node.elements

    def _begin(self, other: Node, holds: list[Memory]) -> None:
        """An array that the same operation computes; the task holds it too."""
        memory = self._of(other)
        memory.users += 1
        holds.append(memory)
        if not other.held and not other.pending:
            self._forget(other)

    def _taken(self, node: Node) -> Memory:
        """The memory that an array is computed into."""
        if node.view:
            return self._of(node.inputs[0])
        for number in node.donors:
            source = node.inputs[number]
            if source.free or source.held or source.pending != 1:
                continue
            memory = source.memory or self._of(source)
            if memory.users == 1 and memory.nbytes == node.nbytes:
                return memory
        return self._allocated(node.nbytes)

    def _count(self, kernels: int, task: _Task) -> None:
        """Close the task if it is full, and wait while too many are unfinished."""
        task.kernels += kernels
        if self._backend.dispatches is not None:
            before = self._dispatched
            self._dispatched += kernels + 1
            full = self._dispatched // self._backend.dispatches > before // self._backend.dispatches
        else:
            full = task.kernels > self._backend.operations or task.elements >> 20 > self._backend.mebi
        if full:
            self._close()
            while len(self._tasks) > _UNFINISHED:
                self._finish()

    def _close(self) -> None:
        self._tasks.append(self._open.holds)
        self._open = _Task()

    def _finish(self) -> None:
        for memory in self._tasks.popleft():
            memory.users -= 1
            if not memory.users:
                self.active -= memory.nbytes

    def _forget(self, node: Node) -> None:
        memory, node.memory = node.memory, None
        if memory is not None:
            self._release(memory)
