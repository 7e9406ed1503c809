"""Curves of memory as inline SVG: an area for each group, and a line for what each accelerator has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from hfmem.advice.curves import Curve, Point
from hfmem.estimator.values import GROUPS, Group
from hfmem.report.colours import COLOURS
from hfmem.report.html.bars import legend
from hfmem.report.html.tags import element, table, text
from hfmem.report.values import GROUP_NAMES
from hfmem.units import UNITS, format_bytes

__all__ = ["plot"]

_WIDE, _HIGH = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 14, 40
_STEPS: Final = (0.1, 0.2, 0.25, 0.5, 1, 2, 2.5, 5)
_TICKS: Final = 5

_NAMES: Final = {"seq": "context in tokens", "batch": "batch in sequences"}


class _Scale(NamedTuple):
    """From sizes and bytes to places in the picture."""

    most_at: int
    most_bytes: float

    def x(self, at: float) -> float:
        return _LEFT + at / self.most_at * (_WIDE - _LEFT - _RIGHT)

    def y(self, nbytes: float) -> float:
        return _HIGH - _BOTTOM - nbytes / self.most_bytes * (_HIGH - _TOP - _BOTTOM)


def plot(curve: Curve, unit: str) -> str:
    """A curve with its legend and, folded, its table."""
    highest = max(1, *(point.total for point in curve.points))
    # an accelerator that the curve is far from would flatten it: it is named below instead
    lines = [line for line in curve.lines if line.usable <= 2 * highest]
    scale = _Scale(curve.points[-1].at, 1.06 * max(highest, *(line.usable for line in lines), 0))
    groups = [group for group in GROUPS if any(dict(point.groups).get(group) for point in curve.points)]
    name = _NAMES[curve.over]
    shapes = [
        *_grid(scale, unit),
        *_areas(curve.points, groups, scale),
        *(_line(line.accelerator.name, line.usable, scale, unit) for line in lines),
        _asked(curve, scale),
        *(_hover(point, scale, unit, name) for point in curve.points),
        element("text", text(name), x=(_WIDE + _LEFT) / 2, y=_HIGH - 6, text_anchor="middle"),
    ]
    picture = element(
        "svg",
        *shapes,
        viewBox=f"0 0 {_WIDE} {_HIGH}",
        role="img",
        aria_label=f"Memory over {name}: {_said(curve, unit)}",
        class_="plot",
    )
    far = [line for line in curve.lines if line not in lines]
    above = ", ".join(f"{line.accelerator.name} has {format_bytes(line.usable, unit)}" for line in far)
    remarks = [f"Far above the curve: {above}." if above else "", "Unknown parts are left out." if curve.partly else ""]
    told = " ".join(filter(None, remarks))
    return element(
        "figure",
        element("figcaption", text(f"Memory over {name}")),
        picture,
        legend(groups),
        element("p", text(told), class_="dim") if told else "",
        _numbers(curve, groups, unit),
    )


def _said(curve: Curve, unit: str) -> str:
    first, last = curve.points[0], curve.points[-1]
    return (
        f"{format_bytes(first.total, unit)} at {first.at:,}, {format_bytes(last.total, unit)} at {last.at:,}"
        + "".join(f"; {line.accelerator.name} has {format_bytes(line.usable, unit)}" for line in curve.lines)
    )


def _grid(scale: _Scale, unit: str) -> Iterator[str]:
    for value in _ticks(scale.most_bytes / UNITS[unit]):
        y = scale.y(value * UNITS[unit])
        yield element("line", x1=_LEFT, x2=_WIDE - _RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="rule")
        yield element("text", text(f"{value:,g}"), x=_LEFT - 6, y=f"{y + 4:.1f}", text_anchor="end")
    yield element("text", text(unit), x=4, y=_TOP + 4)
    for value in _ticks(scale.most_at):
        if value == int(value):
            x = scale.x(value)
            yield element("text", text(f"{int(value):,}"), x=f"{x:.1f}", y=_HIGH - 24, text_anchor="middle")


def _ticks(most: float) -> list[float]:
    """Round numbers up to `most`."""
    power = 1.0
    while power * 10 <= most:
        power *= 10
    while power > most:
        power /= 10
    step = power * next((each for each in _STEPS if most / (power * each) <= _TICKS), 10)
    return [step * number for number in range(1, int(most / step) + 1)]


def _areas(points: Sequence[Point], groups: Sequence[Group], scale: _Scale) -> Iterator[str]:
    below = [0] * len(points)
    for group in groups:
        above = [low + dict(point.groups).get(group, 0) for low, point in zip(below, points, strict=True)]
        there = [(point.at, high) for point, high in zip(points, above, strict=True)]
        back = [(point.at, low) for point, low in zip(points, below, strict=True)]
        corners = " ".join(f"{scale.x(at):.1f},{scale.y(nbytes):.1f}" for at, nbytes in (*there, *reversed(back)))
        yield element("polygon", points=corners, fill=COLOURS[group])
        below = above


def _line(name: str, usable: int, scale: _Scale, unit: str) -> str:
    y = scale.y(usable)
    words = text(f"{name}: {format_bytes(usable, unit)}")
    return element("line", x1=_LEFT, x2=_WIDE - _RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="card") + element(
        "text", words, x=_LEFT + 6, y=f"{y - 4:.1f}", class_="on"
    )


def _asked(curve: Curve, scale: _Scale) -> str:
    """Where the size stands that was asked for."""
    x = scale.x(curve.at)
    return element("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=_TOP, y2=_HIGH - _BOTTOM, class_="asked")


def _hover(point: Point, scale: _Scale, unit: str, name: str) -> str:
    """A strip that tells the figures where it is pointed at."""
    said = f"{point.at:,} {name.partition(' in ')[2]}: {format_bytes(point.total, unit)}"
    return element(
        "circle", element("title", text(said)), cx=f"{scale.x(point.at):.1f}", cy=f"{scale.y(point.total):.1f}", r=4
    )


def _numbers(curve: Curve, groups: Sequence[Group], unit: str) -> str:
    head = [_NAMES[curve.over], *(GROUP_NAMES[group] for group in groups), f"total ({unit})"]
    rows = (
        [
            text(f"{point.at:,}"),
            *(text(format_bytes(dict(point.groups).get(group, 0), unit, label=False)) for group in groups),
            text(format_bytes(point.total, unit, label=False)),
        ]
        for point in curve.points
    )
    listed = table(map(text, head), rows, right=range(len(head)))
    return element("details", element("summary", "As a table"), listed)
