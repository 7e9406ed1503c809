"""Draws panels with matplotlib, without its state: no window, no style of the process is touched."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Final

from hfmem.advice.curves import Curve, Line
from hfmem.estimator.values import GROUPS, Group
from hfmem.report.colours import COLOURS
from hfmem.report.escapes import line as on_one_line
from hfmem.report.plots.panels import Bars, Curves, Panel
from hfmem.report.values import GROUP_NAMES
from hfmem.report.width import fold, shortened
from hfmem.units import UNITS, format_bytes

__all__ = ["drawn", "saved"]

_SETTINGS: Final = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # names may have dollar signs
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "svg.fonttype": "none",  # text that can be read and searched
    "svg.hashsalt": "hfmem",  # the same picture is the same file
}
_MODELS: Final = ("#0077bb", "#ee7733", "#009988", "#cc3311", "#33bbee", "#ee3377", "#aa3377", "#777777")
_DASHES: Final = ("-", "--", ":", "-.")
_CARDS: Final = ("--", ":", "-.", (0, (8, 3)))
_BEHIND: Final = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1}
_WIDE, _HIGH = 5.4, 3.6  # inches of a panel
_DPI, _MOST_PIXELS = 160, 60_000  # the format has room for 2^16 pixels a side
_ROW: Final = 0.36  # inches of a bar
_LETTERS: Final = 10  # of a title in an inch
_LONGEST: Final = 44  # characters of a name beside a bar
_FAR: Final = 2  # an accelerator with more than so many times the most memory would flatten a curve
_TITLES: Final = {
    "parts": "Memory by part",
    "phases": "Phases of a training step",
    "context": "Memory over context",
    "batch": "Memory over batch",
}
_SIZES: Final = {"context": "tokens per sequence", "batch": "sequences"}


def drawn(panels: Sequence[Panel], title: str, unit: str) -> Any:
    """A `matplotlib.figure.Figure` of some panels: bars above, curves side by side.

    Args:
        panels: at least one.
        title: what it is about.
        unit: `GiB` or `GB`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    bars = [panel for panel in panels if isinstance(panel, Bars)]
    curves = [panel for panel in panels if isinstance(panel, Curves)]
    heights = [1.0 + _ROW * len(panel.bars) for panel in bars] + ([_HIGH] if curves else [])
    columns = max(1, len(curves))
    wide = _WIDE * max(columns, 1.6 if bars else 1)
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(wide, sum(heights) + 0.9), layout="constrained")
        grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        for row, panel in enumerate(bars):
            _bars(figure.add_subplot(grid[row, :]), panel, unit)
        for column, each in enumerate(curves):
            _curves(figure.add_subplot(grid[-1, column]), each, unit)
        if title:
            words = fold(on_one_line(title), int(wide * _LETTERS))
            figure.suptitle(words, x=0.01, ha="left", fontsize=10, fontweight="bold")
        _legend(figure, panels)
    return figure


def saved(figure: Any, kind: str, title: str, description: str) -> bytes:
    """A figure as a file of this kind, `png` or `svg`."""
    from matplotlib import rc_context

    out = BytesIO()
    more: dict[str, str | None] = {"Title": on_one_line(title), "Description": on_one_line(description)}
    more |= {"Date": None, "Creator": "hfmem"} if kind == "svg" else {"Software": "hfmem"}
    with rc_context(_SETTINGS), _quiet():
        dpi = min(_DPI, _MOST_PIXELS / max(figure.get_size_inches()))
        figure.savefig(out, format=kind, dpi=dpi, metadata=more)
    return out.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without remarks on characters that a font lacks."""
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _legend(figure: Any, panels: Sequence[Panel]) -> None:
    """The groups, or the models of curves, below the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    groups = [group for group in GROUPS if any(group in _groups(panel) for panel in panels)]
    keys: list[Any] = [Patch(color=COLOURS[group], label=GROUP_NAMES[group]) for group in groups]
    several = next((panel for panel in panels if isinstance(panel, Curves) and len(panel.curves) > 1), None)
    for number, (name, _) in enumerate(several.curves if several is not None else ()):
        colour, dash = _look(number)
        keys.append(Line2D([], [], color=colour, linestyle=dash, label=_short(name)))
    figure.legend(handles=keys, loc="outside lower left", ncols=4 if several is None else 3, frameon=False)


def _groups(panel: Panel) -> set[Group]:
    if isinstance(panel, Bars):
        return {group for bar in panel.bars for group, _ in bar.groups}
    if len(panel.curves) > 1:
        return set()
    return {group for _, curve in panel.curves for point in curve.points for group, _ in point.groups}


def _look(number: int) -> tuple[str, str]:
    """Colour and dashes of a curve among others."""
    return _MODELS[number % len(_MODELS)], _DASHES[number // len(_MODELS) % len(_DASHES)]


def _short(name: str) -> str:
    return shortened(on_one_line(name), _LONGEST)


def _bars(axes: Any, panel: Bars, unit: str) -> None:
    size = UNITS[unit]
    most = max(bar.total for bar in panel.bars)
    for row, bar in enumerate(panel.bars):
        done = 0
        for group, nbytes in bar.groups:
            axes.barh(row, nbytes / size, left=done / size, color=COLOURS[group], height=0.62)
            done += nbytes
        sign = "≥ " if bar.partly else ""
        axes.annotate(
            sign + format_bytes(done, unit), (done / size, row), xytext=(4, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(panel.bars)), [_short(bar.name) for bar in panel.bars])
    axes.invert_yaxis()
    near = _near(panel.lines, most)
    for number, each in enumerate(near):
        axes.axvline(each.usable / size, color="black", linewidth=1, linestyle=_CARDS[number % len(_CARDS)])
        axes.annotate(
            _short(each.accelerator.name), (each.usable / size, 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
            textcoords="offset points", va="top", rotation=90, fontsize=8,
        )  # fmt: skip
    axes.set_xlim(0, 1.16 * max(most, *(each.usable for each in near), 1) / size)
    axes.set_xlabel(f"{unit} of the most loaded accelerator")
    axes.set_title(_title(panel, unit))


def _curves(axes: Any, panel: Curves, unit: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    size = UNITS[unit]
    if len(panel.curves) == 1:
        _areas(axes, panel.curves[0][1], size)
    else:
        for number, (_, curve) in enumerate(panel.curves):
            colour, dash = _look(number)
            totals = [point.total / size for point in curve.points]
            axes.plot([point.at for point in curve.points], totals, color=colour, linestyle=dash, linewidth=1.8)
    most = max(point.total for _, curve in panel.curves for point in curve.points)
    near = _near(panel.lines, most)
    for number, each in enumerate(near):
        axes.axhline(each.usable / size, color="black", linewidth=1, linestyle=_CARDS[number % len(_CARDS)])
        axes.annotate(
            _room(each, panel, unit), (0, each.usable / size), xycoords=("axes fraction", "data"), xytext=(4, 2),
            textcoords="offset points", fontsize=8, bbox=_BEHIND,
        )  # fmt: skip
    at = {curve.at for _, curve in panel.curves}
    if len(at) == 1:
        axes.axvline(at.pop(), color="black", linewidth=0.8, alpha=0.45)
    first = min(curve.points[0].at for _, curve in panel.curves)
    axes.set_xlim(first if panel.name == "batch" else 0, max(curve.points[-1].at for _, curve in panel.curves))
    axes.set_ylim(0, 1.08 * max(most, *(each.usable for each in near), 1) / size)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(_SIZES[panel.name])
    axes.set_ylabel(unit)
    axes.grid(axis="y", alpha=0.25)
    axes.set_title(_title(panel, unit))


def _areas(axes: Any, curve: Curve, size: int) -> None:
    below = [0.0] * len(curve.points)
    places = [point.at for point in curve.points]
    for group in GROUPS:
        above = [low + dict(point.groups).get(group, 0) / size for low, point in zip(below, curve.points, strict=True)]
        axes.fill_between(places, below, above, color=COLOURS[group], linewidth=0)
        below = above


def _near(lines: Sequence[Line], most: int) -> list[Line]:
    """The accelerators that can be drawn without flattening the rest."""
    return [line for line in lines if line.usable <= _FAR * most]


def _room(line: Line, panel: Curves, unit: str) -> str:
    words = f"{_short(line.accelerator.name)}: {format_bytes(line.usable, unit)}"
    most = panel.room.get(line.accelerator.name)
    return f"{words}, up to {most:,}" if most else words


def _title(panel: Panel, unit: str) -> str:
    """The name of a panel, with the accelerators that are beyond it."""
    totals = (
        [bar.total for bar in panel.bars]
        if isinstance(panel, Bars)
        else [point.total for _, curve in panel.curves for point in curve.points]
    )
    near = _near(panel.lines, max(totals))
    far = ", ".join(
        f"{_short(each.accelerator.name)} ({format_bytes(each.usable, unit)})"
        for each in panel.lines
        if each not in near
    )
    least = isinstance(panel, Curves) and any(curve.partly for _, curve in panel.curves)
    words = _TITLES[panel.name] + (", at least: a part is unknown" if least else "")
    return words + (f"\nfar beyond: {far}" if far else "")
