"""Shared by servers: what kernels of MXFP4 experts need beyond the checkpoint's tensors.

* Most kernels round up the sizes of an expert.
* Triton's (`triton_kernels`, `tensor_details/layout_details/hopper_{value,scale}.py`): the intermediate size is a
  multiple of 64. On Hopper its layouts have scales of 256 rows and an even number of columns beside the loaded scales,
  which stay registered, and biases in float32. Newer layouts also have values in multiples of 128 inputs and of 64
  outputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hfmem.engines.segments import unused
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Experts, TensorGroup

__all__ = ["Packed", "packed"]

_BLOCK: Final = 32  # elements per scale
_ROWS: Final = 256  # of scales, for eight warps
_INNER: Final = 64
_INPUTS: Final = 128
_OUTPUTS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """The MXFP4 experts of one rank.

    Attributes:
        stored: bytes of their values and scales in the checkpoint.
        inner, hidden: the sizes of an expert on this rank.
        layers: layers with experts.
    """

    stored: int
    inner: int
    hidden: int
    layers: int

    @property
    def elements(self) -> int:
        """Of the weights."""
        return self.stored * 2 * _BLOCK // (_BLOCK + 2)

    def rounded(self, inner: int, hidden: int) -> tuple[int, str]:
        """Bytes beyond the stored ones where sizes are multiples of these, and the arithmetic."""
        by_inner, by_hidden = _up(self.inner, inner), _up(self.hidden, hidden)
        nbytes = self.stored * by_inner * by_hidden // (self.inner * self.hidden) - self.stored
        return nbytes, f"{self.stored:,} B × ({by_inner} × {by_hidden} / ({self.inner} × {self.hidden}) - 1)"

    def swizzled(self, *, padded: bool) -> tuple[int, str]:
        """The same in Triton's layouts for Hopper, with or without padded values."""
        experts = self.stored // (3 * self.inner * self.hidden // 2 + 3 * self.inner * self.hidden // _BLOCK)
        inner = _up(self.inner, _INNER)
        values = _values(inner, self.hidden, padded=padded)
        kept = sum(values)
        for into, out in ((self.hidden, 2 * inner), (inner, self.hidden)):
            kept += _up(into // _BLOCK, 2) * _up(out, _ROWS) + into // _BLOCK * out
            kept += 2 * out  # a bias in float32 in place of one in 16 bits
        # values are one tensor per layer and matrix, behind which the allocator loses the rest of a segment
        lost = self.layers * sum(unused(experts // self.layers * size) for size in values)
        nbytes = experts * kept + lost - self.stored
        return (
            nbytes,
            f"{experts:,} experts × {kept:,} B in Triton's layouts + {lost:,} B of segments - {self.stored:,} B",
        )


def _values(inner: int, hidden: int, *, padded: bool) -> tuple[int, int]:
    """Bytes of an expert's values in either matrix."""
    inputs, outputs = (_INPUTS, _OUTPUTS) if padded else (1, 1)
    first, second = (_up(into, inputs) // 2 * _up(out, outputs) for into, out in ((hidden, 2 * inner), (inner, hidden)))
    return first, second


def packed(model: Model, groups: Iterable[TensorGroup], ranks: int) -> Packed | None:
    """The experts in MXFP4 among a rank's tensors, each of them split over so many ranks; None without."""
    layers = [layer.ffn for layer in model.architecture.layers or () if isinstance(layer.ffn, Experts)]
    stored = sum(
        group.stored_bytes or 0 for group in groups if group.component == "experts" and group.layout == "mxfp4"
    )
    hidden = model.architecture.hidden_size
    if not layers or not stored or not hidden:
        return None
    return Packed(stored=stored, inner=layers[0].intermediate // ranks, hidden=hidden, layers=len(layers))


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
