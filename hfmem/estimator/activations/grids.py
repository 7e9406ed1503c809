"""Sizes of tensors that a network makes of images, as polynomials in grids of positions.

A convolution, a pooling or patches turn a side of H pixels into floor((H + a) / s) positions; chains of them do too, as
floor((floor((H + a) / s) + b) / t) = floor((H + a + s b) / (s t)). A tensor of a network has so many rows and columns,
or as many as a window's multiple of that, or a token for each position, and a few more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["Grids", "grids", "parsed", "spelled"]

Grids = Mapping["Grid", int]
"""Bytes for each grid: a polynomial."""

_WORD: Final = re.compile(r"(b?)(?:(p|rc|pp)(\d+)([+-]\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Grid:
    """A monomial.

    Attributes:
        batch: whether it is for each image.
        form: `p` for positions (rows × columns), `rc` for rows + columns, `pp` for pairs of positions; "" for none.
        stride: pixels between positions.
        shift: pixels added to a side first.
    """

    batch: bool
    form: str = ""
    stride: int = 1
    shift: int = 0

    def at(self, batch: int, height: int, width: int) -> int:
        """Its value for a batch of images."""
        return (batch if self.batch else 1) * self.positions(height, width)

    def positions(self, height: int, width: int) -> int:
        """Its value for one image."""
        rows, columns = ((side + self.shift) // self.stride for side in (height, width))
        if self.form == "rc":
            return rows + columns
        return {"": 1, "p": rows * columns, "pp": (rows * columns) ** 2}[self.form]

    def describe(self, batch: int, height: int, width: int) -> str:
        """Its value in words."""
        rows, columns = ((side + self.shift) // self.stride for side in (height, width))
        words = {"": "", "p": f"{rows:,} × {columns:,}", "rc": f"({rows:,} + {columns:,})"}
        words["pp"] = f"({rows:,} × {columns:,})²"
        images = f"{batch:,} images" if batch != 1 else "1 image"
        return " × ".join(filter(None, [images if self.batch else "", words[self.form]]))


def spelled(polynomial: Grids) -> dict[str, int]:
    """A polynomial as it stands in a table."""
    return {_spelled(grid): nbytes for grid, nbytes in sorted(polynomial.items()) if nbytes}


def _spelled(grid: Grid) -> str:
    place = f"{grid.form}{grid.stride}{grid.shift:+d}" if grid.form else ""
    return ("b" if grid.batch else "") + place


def parsed(written: Mapping[str, int]) -> dict[Grid, int]:
    """A polynomial of a table.

    Raises:
        ValueError: it is written otherwise.
    """
    return {_parsed(word): nbytes for word, nbytes in written.items()}


def _parsed(word: str) -> Grid:
    found = _WORD.fullmatch(word)
    if found is None:
        raise ValueError(f"{word!r} is no grid")
    batch, form, stride, shift = found.groups()
    return Grid(bool(batch), form or "", int(stride or 1), int(shift or 0))


def grids(polynomial: Grids, batch: int, height: int, width: int) -> int:
    """The bytes of a polynomial."""
    return sum(nbytes * grid.at(batch, height, width) for grid, nbytes in polynomial.items())


def parts(polynomial: Grids, batch: int, height: int, width: int) -> Iterator[tuple[int, str]]:
    """Its terms, with their bytes."""
    for grid, nbytes in polynomial.items():
        words = grid.describe(batch, height, width)
        yield nbytes * grid.at(batch, height, width), f"{words} × {nbytes:,} B" if words else f"{nbytes:,} B"
