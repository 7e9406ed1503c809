"""The figures of the article that the textbook's formulas are from, which explanations quote beside measured ones."""

from __future__ import annotations

from typing import Final

from hfmem.options.words import Attention

__all__ = ["ALPHA_BETA"]

ALPHA_BETA: Final[dict[Attention, tuple[int, int]]] = {"eager": (34, 5), "sdpa": (2, 0), "flash": (2, 0)}
"""(alpha, beta) by attention implementation: bytes per token and hidden unit, bytes per head and pair of tokens."""
