"""Bytes and their two families of units. Everything else in the package counts whole bytes."""

from __future__ import annotations

from typing import Final

__all__ = ["GB", "GIB", "MIB", "UNITS", "format_bytes", "format_count"]

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30
GB: Final = 10**9

UNITS: Final[dict[str, int]] = {"GiB": GIB, "GB": GB}
"""The units of `--unit`: GiB = 2^30 bytes, GB = 10^9 bytes."""


def format_bytes(nbytes: int, unit: str = "GiB", *, label: bool = True) -> str:
    """`nbytes` in `unit` with two decimals; amounts under 0.01 keep three significant digits, so that nothing
    that exists is shown as 0.00."""
    value = nbytes / UNITS[unit] if nbytes < 10**30 else float("inf")
    text = f"{value:,.2f}" if nbytes == 0 or abs(value) >= 0.01 else f"{value:.2g}"
    return f"{text} {unit}" if label else text


def format_count(count: int) -> str:
    """A parameter count as people say it: 6.74 B, 124.44 M, 512."""
    for size, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if count >= size:
            return f"{count / size:.2f} {letter}"
    return f"{count:,}"
