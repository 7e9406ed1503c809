"""Bars of memory as inline SVG: one segment a group, and where the memory of the accelerator ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from hfmem.estimator.values import GROUPS, Estimate, Group
from hfmem.report.colours import COLOURS, TOO_MUCH
from hfmem.report.html.tags import element, text
from hfmem.report.values import GROUP_NAMES
from hfmem.units import format_bytes

__all__ = ["Parts", "bar", "key", "legend", "parts"]

Parts = Sequence[tuple[Group, int]]
"""Bytes of each group that has any, in the order of reports."""

_LENGTH: Final = 1000  # of a bar, in its own units


def parts(estimate: Estimate) -> Parts:
    """The groups of an estimate with their bytes."""
    return [(group, nbytes) for group in GROUPS if (nbytes := estimate.group(group) or 0)]


def bar(of: Parts, unit: str, usable: int | None = None, whole: int | None = None) -> str:
    """A bar of some groups.

    Args:
        of: the groups and their bytes.
        unit: unit of the text that appears when a segment is pointed at.
        usable: bytes of the accelerator, which the rest of the bar shows as free; None without one.
        whole: bytes that the full length stands for; None: the larger of the total and `usable`.
    """
    total = sum(nbytes for _, nbytes in of)
    whole = max(whole or 0, total, usable or 0, 1)
    free = max(0, (usable or 0) - total)
    said = ", ".join(f"{GROUP_NAMES[group]} {format_bytes(nbytes, unit)}" for group, nbytes in of)
    ground = _Piece(0, max(total, usable or total), f"{format_bytes(free, unit)} free", "currentColor", 0.12)
    shapes = [ground.drawn(whole)]
    done = 0
    for group, nbytes in of:
        shown = f"{GROUP_NAMES[group]} {format_bytes(nbytes, unit)}"
        shapes.append(_Piece(done, nbytes, shown, COLOURS[group]).drawn(whole))
        done += nbytes
    if usable is not None and total > usable:
        shapes.append(_end(usable, whole, f"the accelerator's memory ends at {format_bytes(usable, unit)}"))
    return element(
        "svg",
        *shapes,
        viewBox=f"0 0 {_LENGTH} 20",
        preserveAspectRatio="none",
        role="img",
        aria_label=said + (f", {format_bytes(free, unit)} free" if free else ""),
        width="100%",
        height="24",
    )


class _Piece(NamedTuple):
    """A piece of a bar: where it begins, its bytes, what is said where it is pointed at, and how it looks."""

    start: int
    nbytes: int
    said: str
    colour: str
    opacity: float | None = None

    def drawn(self, whole: int) -> str:
        """The piece in a bar that stands for `whole` bytes."""
        return element(
            "rect",
            element("title", text(self.said)),
            x=f"{self.start * _LENGTH / whole:.2f}",
            y=0,
            width=f"{self.nbytes * _LENGTH / whole:.2f}",
            height=20,
            fill=self.colour,
            fill_opacity=self.opacity,
        )


def _end(usable: int, whole: int, said: str) -> str:
    """The line where the memory ends, and a strip below what is beyond it."""
    x = usable * _LENGTH / whole
    beyond = element("rect", x=f"{x:.2f}", y=16, width=f"{_LENGTH - x:.2f}", height=4, fill=TOO_MUCH)
    line = element("rect", element("title", text(said)), x=f"{x - 2:.2f}", y=0, width=4, height=20, fill="currentColor")
    return beyond + line


def key(group: Group) -> str:
    """The square in the colour of a group, for tables and legends."""
    return element("span", class_="key", style=f"background:{COLOURS[group]}", aria_hidden="true")


def legend(groups: Sequence[Group]) -> str:
    """The names of groups beside their colours."""
    named = (element("span", key(group), text(GROUP_NAMES[group]), style="margin-right:1em") for group in groups)
    return element("p", *named)
