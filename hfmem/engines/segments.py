"""Rounding by PyTorch's allocator."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Final

from hfmem.units import MIB

__all__ = ["reserved", "unused"]

# kRoundLarge, kMinLargeAlloc and kSmallSize of PyTorch's CUDACachingAllocator
_SEGMENT: Final = 2 * MIB
_LARGE: Final = 10 * MIB
_UNSPLIT: Final = MIB
# kMinBlockSize, kSmallBuffer, kLargeBuffer
_BLOCK: Final = 512
_SMALL_SEGMENT: Final = 2 * MIB
_SHARED_SEGMENT: Final = 20 * MIB


def unused(nbytes: int) -> int:
    """Bytes that are lost behind a tensor: one of 10 MiB or more gets its own segment, a multiple of 2 MiB, of which a
    rest up to 1 MiB is not split off."""
    rest = -nbytes % _SEGMENT
    return rest if nbytes >= _LARGE and rest <= _UNSPLIT else 0


def reserved(sizes: Iterable[int]) -> int:
    """Bytes of the segments in which tensors of these sizes are put one after another, none of them freed: what they
    take of the card's free memory. Tensors up to 1 MiB share segments of 2 MiB, those below 10 MiB segments of 20 MiB;
    each goes into the smallest rest that it fits in."""
    total, small, large = 0, list[int](), list[int]()
    for size in (-(-max(1, nbytes) // _BLOCK) * _BLOCK for nbytes in sizes):
        rests, least = (small, _BLOCK) if size <= _UNSPLIT else (large, _UNSPLIT + 1)
        index = bisect_left(rests, size)
        if index < len(rests):
            block = rests.pop(index)
        else:
            block = _segment(size)
            total += block
        if block - size >= least:
            insort(rests, block - size)
    return total


def _segment(size: int) -> int:
    """Bytes of a new segment for a tensor."""
    if size <= _UNSPLIT:
        return _SMALL_SEGMENT
    return _SHARED_SEGMENT if size < _LARGE else -(-size // _SEGMENT) * _SEGMENT
