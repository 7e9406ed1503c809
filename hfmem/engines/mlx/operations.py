"""The operations of MLX that models are made of, with the arrays that they make.

On Metal, norms, rotary positions and attention are kernels; a processor computes them from elementary operations
(the `fallback` functions of mlx 0.32, mlx/fast.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hfmem.engines.mlx.graph import Node, weight

__all__ = ["Heads", "Operations", "Packed"]

_FLOAT32: Final = 4
_WORD: Final = 4  # bytes of an integer

_FUSED: Final = frozenset({64, 72, 80, 96, 128})
_FUSED_ALONE: Final = frozenset({64, 96, 128, 256})
"""Head dimensions of Metal's attention kernels, for many queries and for up to eight (`has_fused_kernel` and
`use_fallback` of mlx/backend/metal/scaled_dot_product_attention.cpp)."""
_FEW: Final = 8
_TILE: Final = 32
_GROUPS: Final = 512  # thread groups that `qmm_splitk` aims at


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """How matrices are quantised: `bits` per element, scales and zero points per `group` elements."""

    bits: int
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """What attention reads: arrays as [batch, heads, tokens, dim], of `context` tokens for keys and values."""

    queries: Node
    keys: Node
    values: Node
    context: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Builds arrays for one forward pass.

    Attributes:
        fused: whether the backend is Metal.
        batch: sequences.
        tokens: tokens of each sequence in this pass.
        item: bytes per element of activations.
        packed: how matrices are quantised; None for plain ones.
    """

    fused: bool
    batch: int
    tokens: int
    item: int
    packed: Packed | None = None

    @property
    def rows(self) -> int:
        """Tokens of all sequences."""
        return self.batch * self.tokens

    def array(
        self, inputs: Sequence[Node], elements: int, *, item: int = 0, donors: tuple[int, ...] = (), kernels: int = 1
    ) -> Node:
        """A computed array."""
        nbytes = elements * (item or self.item)
        return Node(inputs=tuple(inputs), nbytes=nbytes, elements=elements, donors=donors, kernels=kernels)

    def view(self, of: Node, *others: Node) -> Node:
        """A reshaped, transposed or sliced array, in the same memory."""
        if of.free:
            return of
        return Node(inputs=(of, *others), nbytes=of.nbytes, elements=of.elements, view=True, kernels=0)

    def part(self, of: Node, elements: int) -> Node:
        """A view of so many elements."""
        found = self.view(of)
        found.elements = elements
        return found

    def copy(self, of: Node) -> Node:
        """A contiguous copy."""
        return Node(inputs=(of,), nbytes=of.nbytes, elements=of.elements)

    def weight(self, elements: int) -> Node:
        """A weight that is not quantised."""
        return weight(elements, self.item)

    def matrix(self, elements: int) -> tuple[Node, ...]:
        """A matrix: plain, or packed with its scales and zero points."""
        if self.packed is None:
            return (self.weight(elements),)
        groups = elements // self.packed.group
        words = weight(elements * self.packed.bits // 32, _WORD)
        return (words, self.weight(groups), self.weight(groups))

    def linear(self, x: Node, wide: int, out: int, *, bias: bool = False) -> Node:
        """`nn.Linear` or `nn.QuantizedLinear`, over all rows."""
        matrix, size = self.matrix(wide * out), self.rows * out
        if bias and len(matrix) == 1:
            return self.array((self.weight(out), x, *matrix), size)
        y = self.array((x, *matrix), size)
        parts = self._parts(wide, out) if len(matrix) > 1 else 1
        if parts > 1:
            y.scratch, y.kernels = parts * size * self.item, 2
        return self.array((y, self.weight(out)), size, donors=(0,)) if bias else y

    def _parts(self, wide: int, out: int) -> int:
        """Parts of its inputs that a packed matrix is multiplied in on Metal where there are few tiles of output; a
        second kernel sums them up (`qmm_splitk` of mlx/backend/metal/quantized.cpp)."""
        if not self.fused or self.packed is None or self.rows <= _FEW:
            return 1
        align = max(self.packed.group, _TILE)
        parts = min(_GROUPS // (-(-self.rows // _TILE) * -(-out // _TILE)), wide // align)
        while parts > 1 and wide % (parts * align):
            parts -= 1
        return max(1, parts)

    def add(self, x: Node, y: Node) -> Node:
        """A sum, in the memory of one of them where possible."""
        return self.array((x, y), max(x.elements, y.elements), donors=(0, 1))

    def elementwise(self, *inputs: Node) -> Node:
        """A compiled elementwise function (`mx.compile`): one kernel, in the memory of an input where possible."""
        return self.array(inputs, inputs[0].elements, donors=tuple(range(len(inputs))))

    def convolution(self, x: Node, kernel: int, channels: int) -> Node:
        """A depthwise convolution without padding; a processor lays its windows out, in float32."""
        y = self.array((x, self.weight(kernel * channels)), self.rows * channels)
        if not self.fused:
            windows = (kernel + 1) * self.rows + self.batch * (kernel - 1) + kernel
            y.scratch = _FLOAT32 * channels * (windows + (self.rows if self.item != _FLOAT32 else 0))
        return y

    def triangle(self, tokens: int) -> Node:
        """The mask of `mx.tril`."""
        row, column = (self.array((self.weight(1),), tokens, item=_WORD) for _ in range(2))
        return self.array((self.view(row), self.view(column)), tokens * tokens, item=1)

    def norm(self, x: Node, wide: int, *, strided: bool = False, weighted: bool = True) -> Node:
        """`nn.RMSNorm` over the last `wide` elements; a transposed (`strided`) array is copied first."""
        if self.fused:
            donors, kernels = ((), 2) if strided else ((0,), 1)
            return self.array((x, self.weight(wide)), x.elements, donors=donors, kernels=kernels)
        f = _FLOAT32
        rows = x.elements // wide
        wider = self.array((x,), x.elements, item=f) if self.item != f else x
        squares = self.array((wider,), x.elements, item=f)
        mean = self.array((squares,), rows, item=f)
        mean = self.array((mean,), rows, item=f, donors=(0,))
        mean = self.array((mean, self.weight(1)), rows, item=f, donors=(0,))
        root = self.array((mean,), rows, item=f, donors=(0,))
        y = self.array((wider, self.view(root)), x.elements, item=f, donors=(0,))
        if self.item != f:
            y = self.array((y,), x.elements)
        return self.array((y, self.view(self.weight(wide))), x.elements, donors=(0,)) if weighted else y

    def rope(self, x: Node, heads: int, wide: int, *, partial: bool = False) -> Node:
        """Rotary positions of a transposed view [batch, heads, tokens, wide]; of a part of each head, after a copy."""
        if self.fused and partial:
            return self.array((x, self.weight(1)), x.elements, kernels=2)
        if self.fused:
            return self.array((x, self.weight(1)), x.elements, donors=(0,) if self.tokens == 1 else ())
        f, half = _FLOAT32, wide // 2
        positions = self.array((self.weight(1),), self.tokens, item=f)
        positions = self.array((positions, self.weight(1)), self.tokens, item=f, donors=(0,))
        frequencies = self.array((self.array((self.weight(1),), half, item=f),), half, item=f, donors=(0,))
        angle = self.array((self.view(positions), frequencies), self.tokens * half, item=f)
        turns = [self.array((angle,), self.tokens * half, item=f) for _ in range(2)]
        if self.item != f:
            turns = [self.array((turn,), self.tokens * half) for turn in turns]
        part = self.batch * heads * self.tokens * half
        halves = (self.view(x), self.view(x))
        parts = []
        for first, second in ((0, 1), (1, 0)):
            one = self.array((halves[0], self.view(turns[first])), part)
            other = self.array((halves[1], self.view(turns[second])), part)
            parts.append(self.array((one, other), part, donors=(0, 1)))
        return self.array(parts, x.elements)

    def attention(self, of: Heads, *, heads: int, dims: tuple[int, int], mask: Node | None) -> Node:
        """Attention, as [batch, tokens, heads × value dim].

        Args:
            of: what it reads.
            heads: query heads.
            dims: head dimension of keys, and of values.
            mask: an array; None for a causal mask, which a kernel needs no array for.
        """
        out = self.batch * heads * self.tokens * dims[1]
        if self.fused and self._kernel(dims):
            masks = () if mask is None else (self.view(mask),)
            donors = (0,) if self.tokens <= _FEW else ()
            found = self.array((of.queries, of.keys, of.values, *masks), out, donors=donors)
            return self.view(self.view(found))
        scaled = self.array((self.weight(1), of.queries), of.queries.elements, donors=(1,))
        count = self.batch * heads * self.tokens * of.context
        scores = self.array((self.view(scaled), self.view(of.keys)), count)
        if mask is None and self.tokens > 1:
            row, column = (self.array((self.weight(1),), size, item=_WORD) for size in (self.tokens, of.context))
            mask = self.array((self.view(row), self.view(column)), self.tokens * of.context, item=1)
        if mask is not None:
            scores = self.array((self.view(mask), scores, self.weight(1)), count, donors=(1,))
        scores = self.array((scores,), count, donors=(0,))
        found = self.view(self.view(self.array((scores, self.view(of.values)), out)))
        return self.copy(found) if self.tokens > 1 else found

    def _kernel(self, dims: tuple[int, int]) -> bool:
        sizes = _FUSED if self.tokens > _FEW else _FUSED_ALONE
        return dims[0] == dims[1] and dims[0] in sizes
