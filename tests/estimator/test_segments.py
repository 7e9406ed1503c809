"""Segments of PyTorch's caching allocator, by the constants of c10/cuda/CUDACachingAllocator."""

from __future__ import annotations

import pytest

from hfmem.engines.segments import reserved, unused
from hfmem.units import MIB


@pytest.mark.parametrize(
    ("sizes", "nbytes"),
    [
        ([], 0),
        ([1], 2 * MIB),  # kSmallBuffer
        ([MIB, MIB], 2 * MIB),  # up to 1 MiB is small
        ([MIB, MIB - 511], 2 * MIB),  # blocks are multiples of 512 B
        ([MIB, MIB, 1], 4 * MIB),
        ([2 * MIB], 20 * MIB),  # kLargeBuffer
        ([9 * MIB, 9 * MIB], 20 * MIB),
        ([9 * MIB, 9 * MIB, 2 * MIB], 20 * MIB),
        ([9 * MIB, 9 * MIB, 3 * MIB], 40 * MIB),
        ([10 * MIB], 10 * MIB),  # kMinLargeAlloc: a segment of its own, a multiple of 2 MiB
        ([11 * MIB], 12 * MIB),
        ([11 * MIB + MIB // 2, MIB + MIB // 4], 32 * MIB),  # a rest up to 1 MiB is not split off
        ([10 * MIB + MIB // 2, MIB + MIB // 4], 12 * MIB),  # one of 1.5 MiB is
        ([10 * MIB + MIB // 2, MIB // 2], 14 * MIB),  # small tensors lie among small ones
    ],
)
def test_segments(sizes: list[int], nbytes: int) -> None:
    assert reserved(sizes) == nbytes


def test_what_is_lost_behind_one_tensor() -> None:
    for size in (10 * MIB + MIB, 10 * MIB + MIB + 512, 11 * MIB + MIB // 2):
        assert reserved([size]) - size >= unused(size)
    assert unused(11 * MIB) == MIB
    assert unused(10 * MIB + MIB // 2) == 0


def test_a_layer_of_qwen3_14b_on_a_rank_of_four_loses_four_and_a_half_mebibytes() -> None:
    """A public log of SGLang has 7.08 GiB of weights a rank, of which 6.90 are tensors: 17.5, 12.5, 85 and 42.5 MiB."""
    layer = [int(17.5 * MIB), int(12.5 * MIB), 85 * MIB, int(42.5 * MIB)]
    assert reserved(layer * 40) - 40 * sum(layer) == 40 * 4.5 * MIB
