"""Byte units: GiB and GB. Everything else in the package uses integer bytes."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["GB", "GIB", "MIB", "UNITS", "format_bytes", "format_count", "gib_of"]

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


_MEMORY: Final = {"k": 2.0**-20, "m": 2.0**-10, "g": 1.0, "t": 2.0**10}
_SIZE: Final = r"(?P<number>\d{1,9}(?:\.\d{1,9})?)\s*(?P<unit>[kmgtKMGT])(?:[iI]?[bB])?"


def gib_of(text: str) -> float | None:
    """A memory size (`24GB`, `24576MiB`, `1.5g`) in GiB; None for anything else. GB counts as GiB, as memory has powers
    of two whatever its unit is called."""
    match = re.fullmatch(_SIZE, text.strip())
    return float(match["number"]) * _MEMORY[match["unit"].lower()] if match is not None else None


def format_count(count: int) -> str:
    """A parameter count in short form: 6.74 B, 124.44 M, 512."""
    for size, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if count >= size:
            return f"{count / size:.2f} {letter}"
    return f"{count:,}"
