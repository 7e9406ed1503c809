"""How much of a file of pickles is read."""

from __future__ import annotations

from typing import Final

from hfmem.units import MIB

__all__ = ["HEAD", "LONGEST"]

HEAD: Final = 128 * 1024
"""Bytes requested first: the pickle of 1,000 tensors."""

LONGEST: Final = 64 * MIB
"""Longest row of pickles that is read, in bytes."""
