"""Bytes of a matrix in NF4, as bitsandbytes stores it."""

from __future__ import annotations

__all__ = ["NF4_SOURCE", "nf4_bytes"]

NF4_SOURCE = "bitsandbytes 0.50 Params4bit: 4 bits, a float32 scale per block of 64, a table of 16 float32 values"
_TABLE = 16 * 4


def nf4_bytes(elements: int, double_quant: bool) -> int:
    """One matrix in NF4 (arXiv 2305.14314): half a byte per element, and a float32 absmax per block of 64. With double
    quantisation the absmax is one byte, plus a float32 per 256 blocks and one float32 offset."""
    blocks = -(-elements // 64)
    packed = -(-elements // 2) + _TABLE
    if not double_quant:
        return packed + 4 * blocks
    return packed + blocks + 4 * -(-blocks // 256) + 4
