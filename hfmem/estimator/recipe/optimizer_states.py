"""Optimizer states per parameter tensor, as functions of its shape and bytes per element.

Step counters (one number per tensor, in host memory unless the optimizer is fused) are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Final

__all__ = [
    "Kept",
    "States",
    "blockwise",
    "confidence",
    "copies",
    "factored",
    "float32",
    "galore",
    "galore_8bit",
    "low_rank",
    "mini",
    "muon",
    "torchao",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A trained tensor, as the optimizer sees it.

    Attributes:
        shape: of the tensor.
        width: bytes per element of the copy that the optimizer updates.
        embedding: whether it is an embedding, which transformers' Trainer excludes from 8-bit states.
        matrix: whether it is the weight of a linear layer inside the blocks.
        rank: rank of low-rank optimizers.
    """

    shape: tuple[int, ...]
    width: int
    embedding: bool = False
    matrix: bool = False
    rank: int = 0

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)


States = Callable[[Kept], int]
"""Bytes of optimizer state for a tensor. The implementations below are values, not closures, so that reports that
contain them can be compared, copied, pickled and written as JSON."""


@dataclass(frozen=True, slots=True)
class _Copies:
    """Tensors of the parameter's shape and dtype."""

    count: int

    def __call__(self, t: Kept) -> int:
        return self.count * t.elements * t.width


@dataclass(frozen=True, slots=True)
class _Float32:
    """float32 tensors of the parameter's shape."""

    count: int

    def __call__(self, t: Kept) -> int:
        return 4 * self.count * t.elements


@dataclass(frozen=True, slots=True)
class _Blockwise:
    """8-bit tensors with a float32 maximum per block of 256."""

    count: int

    def __call__(self, t: Kept) -> int:
        # bitsandbytes' min_8bit_size; embeddings are overridden to 32 bits (GlobalOptimManager)
        if t.elements < 4096 or t.embedding:
            return 4 * self.count * t.elements
        return self.count * (t.elements + 4 * -(-t.elements // 256))


@dataclass(frozen=True, slots=True)
class _TorchAo:
    """Two low-bit tensors, each with a float32 scale per block and a lookup table of float32 values."""

    bits: int
    block: int
    table: int

    def __call__(self, t: Kept) -> int:
        if t.elements < 4096 or t.elements % self.block:
            return 2 * t.elements * t.width
        return 2 * (t.elements * self.bits // 8 + 4 * t.elements // self.block + 4 * self.table)


@dataclass(frozen=True, slots=True)
class _Factored:
    """Row and column means, plus full-size tensors."""

    width: int | None
    copies: int

    def __call__(self, t: Kept) -> int:
        width = self.width or t.width
        if len(t.shape) < 2:
            return (1 + self.copies) * t.elements * width
        *outer, rows, columns = t.shape
        return width * (prod(outer) * (rows + columns) + self.copies * t.elements)


@dataclass(frozen=True, slots=True)
class _Named:
    """A rule without parameters, by name."""

    rule: str

    def __call__(self, t: Kept) -> int:
        return _RULES[self.rule](t)


def copies(count: int) -> States:
    """`count` tensors of the parameter's shape and dtype."""
    return _Copies(count)


def float32(count: int) -> States:
    """`count` float32 tensors, whatever dtype the parameter has."""
    return _Float32(count)


def blockwise(count: int) -> States:
    """bitsandbytes: `count` 8-bit tensors, a float32 absmax per block of 256; small tensors and embeddings 32-bit."""
    return _Blockwise(count)


def torchao(bits: int, block: int, table: int) -> States:
    """torchao: two tensors of `bits` bits, each with a float32 scale per block and a lookup table; tensors that are
    small, or not a multiple of the block size, keep states in the parameter's dtype."""
    return _TorchAo(bits, block, table)


def factored(width: int | None = None, *, copies: int = 0) -> States:
    """Row and column means of the squared gradients in place of the full second moment, in `width` bytes per element
    (None: as the parameter), plus `copies` full-size tensors."""
    return _Factored(width, copies)


def _confidence(t: Kept) -> int:
    """CAME: a momentum and two factored statistics."""
    if len(t.shape) < 2:
        return 2 * t.elements * t.width
    return factored(copies=1)(t) + factored()(t)


def _low_rank(t: Kept) -> int:
    """A projection of the smaller dimension to `rank`, and two moments in the projected space; AdamW for other
    tensors."""
    if not t.matrix or len(t.shape) != 2:
        return 2 * t.elements * t.width
    small, large = sorted(t.shape)
    rank = min(t.rank, small)
    return t.width * rank * (small + 2 * large)


def _galore(t: Kept) -> int:
    """As `_low_rank`; in float32 the projection is a view of all singular vectors, which are kept alive by it."""
    return _low_rank(t) + _whole_vectors(t)


def _whole_vectors(t: Kept) -> int:
    """Bytes of the singular vectors beyond the rank. A 16-bit projection is a cast copy and keeps nothing alive."""
    if not t.matrix or len(t.shape) != 2 or t.width < 4:
        return 0
    small = min(t.shape)
    return t.width * small * (small - min(t.rank, small))


def _galore_8bit(t: Kept) -> int:
    """As `_galore` with both moments in 8 bits, in blocks of 256."""
    if not t.matrix or len(t.shape) != 2:
        return blockwise(2)(t)
    small, large = sorted(t.shape)
    rank = min(t.rank, small)
    moments = blockwise(2)(Kept(shape=(rank, large), width=t.width))
    return t.width * rank * small + moments + _whole_vectors(t)


def _muon(t: Kept) -> int:
    """One momentum for linear weights of the blocks, AdamW's two moments for the rest."""
    return (1 if t.matrix else 2) * t.elements * t.width


def _mini(t: Kept) -> int:
    """A momentum, and one second moment per row of a matrix (a block of the Hessian in Adam-mini's sense)."""
    blocks = t.shape[0] if len(t.shape) > 1 else t.elements if not t.matrix else 1
    return t.width * (t.elements + blocks)


_RULES: Final[dict[str, States]] = {
    "confidence": _confidence,
    "galore": _galore,
    "low_rank": _low_rank,
    "galore_8bit": _galore_8bit,
    "mini": _mini,
    "muon": _muon,
}

confidence, galore, low_rank = _Named("confidence"), _Named("galore"), _Named("low_rank")
galore_8bit, mini, muon = _Named("galore_8bit"), _Named("mini"), _Named("muon")
