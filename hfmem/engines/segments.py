"""Rounding by PyTorch's allocator."""

from __future__ import annotations

from typing import Final

from hfmem.units import MIB

__all__ = ["unused"]

# kRoundLarge, kMinLargeAlloc and kSmallSize of PyTorch's CUDACachingAllocator
_SEGMENT: Final = 2 * MIB
_LARGE: Final = 10 * MIB
_UNSPLIT: Final = MIB


def unused(nbytes: int) -> int:
    """Bytes that are lost behind a tensor: one of 10 MiB or more gets its own segment, a multiple of 2 MiB, of which a
    rest up to 1 MiB is not split off."""
    rest = -nbytes % _SEGMENT
    return rest if nbytes >= _LARGE and rest <= _UNSPLIT else 0
