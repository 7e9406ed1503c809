"""The caches of mlx-lm 0.32 (mlx_lm/models/cache.py) as they are allocated: in steps, growing by a copy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from hfmem.engines.mlx.graph import Node, leaf
from hfmem.engines.mlx.operations import Operations

__all__ = ["STEP", "Attended", "Growing", "LayerCache", "Rotating", "States", "rounded"]

STEP: Final = 256
"""Tokens in whose multiples caches grow (`KVCache.step`)."""


def rounded(tokens: int) -> int:
    """Tokens rounded up to whole steps."""
    return -(-tokens // STEP) * STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """What attention reads.

    Attributes:
        keys, values: the arrays.
        context: tokens in them.
    """

    keys: Node
    values: Node
    context: int


class LayerCache(Protocol):
    """The cache of one layer over several passes."""

    def existing(self) -> list[Node]:
        """The arrays that it consists of."""

    def update(self, keys: Node, values: Node, ops: Operations) -> tuple[Attended, list[Node]]:
        """Take in the keys and values of a pass: what attention reads, and the arrays that it let go of."""


@dataclass(slots=True, kw_only=True)
class _Arrays:
    """Keys and values of one layer.

    Attributes:
        widths: elements of a token's keys, and of its values.
        batch, item: sequences, and bytes per element.
        arrays: keys and values; none before the first pass.
        capacity: tokens for which there is room.
        tokens: tokens so far.
    """

    widths: tuple[int, int]
    batch: int
    item: int
    arrays: list[Node] = field(default_factory=list)
    capacity: int = 0
    tokens: int = 0

    def existing(self) -> list[Node]:
        return self.arrays

    def start(self, capacity: int, tokens: int) -> None:
        """Begin with `tokens` tokens in arrays for `capacity`."""
        self.capacity, self.tokens = capacity, tokens
        if capacity:
            sizes = [self.batch * capacity * width for width in self.widths]
            self.arrays = [leaf(size, self.item) for size in sizes]

    def _size(self, number: int, tokens: int) -> int:
        return self.batch * tokens * self.widths[number]

    def _take(self, arrays: list[Node]) -> list[Node]:
        """Replace the arrays; the old ones are returned."""
        before, self.arrays = self.arrays, arrays
        for array in arrays:
            array.held = True
        return before


@dataclass(slots=True, kw_only=True)
class Growing(_Arrays):
    """`KVCache`: keys and values of all tokens, in arrays that grow by whole steps: a new array takes both, the old one
    and zeros."""

    def update(self, keys: Node, values: Node, ops: Operations) -> tuple[Attended, list[Node]]:
        rooms, after = self.arrays, self.tokens + ops.tokens
        if not self.arrays or after > self.capacity:
            added = rounded(ops.tokens)
            kept = self.tokens if self.tokens % STEP else self.capacity
            rooms = [self._grown(number, kept, added, ops) for number in (0, 1)]
            self.capacity = kept + added
        filled = [
            ops.array((room, new), self._size(number, self.capacity), donors=(0,), kernels=1)
            for number, (room, new) in enumerate(zip(rooms, (keys, values), strict=True))
        ]
        before = self._take(filled)
        self.tokens = after
        read = [self._read(array, number, after, ops) for number, array in enumerate(filled)]
        return Attended(keys=read[0], values=read[1], context=after), before

    def _grown(self, number: int, kept: int, added: int, ops: Operations) -> Node:
        zeros = ops.array((ops.weight(1),), self._size(number, added))
        if not self.arrays:
            return zeros
        old = self.arrays[number]
        if kept < self.capacity:
            old = ops.view(old)
        return ops.array((old, zeros), self._size(number, kept + added), kernels=2)

    def _read(self, array: Node, number: int, after: int, ops: Operations) -> Node:
        if after == self.capacity:
            return array
        return ops.part(array, self._size(number, after))


@dataclass(slots=True, kw_only=True)
class Rotating(_Arrays):
    """`RotatingKVCache`: the last tokens of a window. A prompt is appended by a copy, which holds the window and all
    new tokens until the next pass; single tokens are written in place.

    Attributes:
        window: `max_size`.
    """

    window: int

    def update(self, keys: Node, values: Node, ops: Operations) -> tuple[Attended, list[Node]]:
        found = self._append(keys, values, ops) if ops.tokens > 1 else self._write(keys, values, ops)
        self.tokens += ops.tokens
        return found

    def _append(self, keys: Node, values: Node, ops: Operations) -> tuple[Attended, list[Node]]:
        new = [keys, values]
        if self.arrays:
            kept = min(self.capacity, self.tokens, self.window - 1)
            sizes = [self._size(number, kept + ops.tokens) for number in (0, 1)]
            olds = [ops.view(old) for old in self.arrays]
            new = [ops.array((old, one), size, kernels=2) for old, one, size in zip(olds, new, sizes, strict=True)]
            self.capacity = kept + ops.tokens
        else:
            self.capacity = ops.tokens
        before = self._take(new)
        return Attended(keys=new[0], values=new[1], context=self.capacity), before

    def _write(self, keys: Node, values: Node, ops: Operations) -> tuple[Attended, list[Node]]:
        rooms = list(self.arrays)
        if not rooms or (self.tokens >= self.capacity and self.capacity < self.window):
            added = min(STEP, self.window - self.tokens)
            zeros = [ops.array((ops.weight(1),), self._size(number, added)) for number in (0, 1)]
            self.capacity += added
            sizes = [self._size(number, self.capacity) for number in (0, 1)]
            joined = zip(rooms, zeros, sizes, strict=True) if rooms else ()
            rooms = [ops.array(pair, size, kernels=2) for *pair, size in joined] or zeros
        if self.capacity > self.window:
            self.capacity = self.window
            rooms = [ops.array((ops.view(room),), self._size(number, self.window)) for number, room in enumerate(rooms)]
        filled = [
            ops.array((room, new), self._size(number, self.capacity), donors=(0,))
            for number, (room, new) in enumerate(zip(rooms, (keys, values), strict=True))
        ]
        before = self._take(filled)
        context = min(self.tokens + 1, self.capacity)
        read = [ops.view(array) if context < self.capacity else array for array in filled]
        return Attended(keys=read[0], values=read[1], context=context), before


@dataclass(slots=True, kw_only=True)
class States:
    """`ArraysCache`: the last inputs of a convolution, and a recurrent state.

    Attributes:
        conv, state: their arrays; None before the first pass.
    """

    conv: Node | None = None
    state: Node | None = None

    def existing(self) -> list[Node]:
        """The arrays that it consists of."""
        return [array for array in (self.conv, self.state) if array is not None]

    def take_conv(self, array: Node) -> list[Node]:
        """Replace the inputs of the convolution; the old ones are returned."""
        before, self.conv = self.conv, array
        array.held = True
        return [] if before is None else [before]

    def take_state(self, array: Node) -> list[Node]:
        """Replace the state; the old one is returned."""
        before, self.state = self.state, array
        array.held = True
        return [] if before is None else [before]
