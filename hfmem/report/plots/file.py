"""The bytes of a picture: PNG, SVG, or a page of HTML with the picture and its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from hfmem.report.heading import asked
from hfmem.report.html.page import document
from hfmem.report.html.tags import element, table, text
from hfmem.report.plots.draw import drawn, saved
from hfmem.report.plots.panels import Bars, Curves, Panel
from hfmem.report.values import GROUP_NAMES, Report
from hfmem.units import format_bytes

__all__ = ["picture", "titled"]


def titled(reports: Sequence[Report]) -> str:
    """What a picture of some reports is about."""
    if len(reports) == 1:
        return f"{reports[0].name} · {asked(reports[0])}"
    scenarios = list(dict.fromkeys(map(asked, reports)))
    return f"{len(reports)} models" + (f" · {scenarios[0]}" if len(scenarios) == 1 else "")


def picture(panels: Sequence[Panel], title: str, kind: str, unit: str) -> bytes:
    """A file of some panels.

    Args:
        panels: at least one.
        title: what it is about.
        kind: `png`, `svg` or `html`.
        unit: `GiB` or `GB`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    said = "; ".join(sentence for panel in panels for sentence in _said(panel, unit))
    figure = drawn(panels, "" if kind == "html" else title, unit)  # the page has it as its heading
    if kind != "html":
        return saved(figure, kind, title, said)
    # the prolog and its references are for files of their own
    markup = saved(figure, "svg", title, said).decode()
    shape = markup[markup.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{text(said)}"', 1)
    shown = element("div", shape, class_="wide", style="background:#fff;border-radius:6px;padding:.5em")
    numbers = (_numbers(panel, unit) for panel in panels)
    heading = element("h2", text(title))
    return document(title, element("div", heading, shown, *numbers, class_="hfmem")).encode()


def _said(panel: Panel, unit: str) -> list[str]:
    """What a panel shows, for those who do not see it."""
    if isinstance(panel, Bars):
        return [f"{bar.name}: {format_bytes(bar.total, unit)}" for bar in panel.bars]
    return [
        f"{name}: {format_bytes(curve.points[0].total, unit)} at {panel.name} {curve.points[0].at:,}, "
        f"{format_bytes(curve.points[-1].total, unit)} at {curve.points[-1].at:,}"
        for name, curve in panel.curves
    ]


def _numbers(panel: Panel, unit: str) -> str:
    """The numbers of a panel as a table."""
    rows: list[list[str]]
    if isinstance(panel, Bars):
        names = list(dict.fromkeys(group for bar in panel.bars for group, _ in bar.groups))
        head = [panel.name, *(GROUP_NAMES[group] for group in names), f"total ({unit})"]
        rows = [
            [bar.name, *(_size(dict(bar.groups).get(group, 0), unit) for group in names), _size(bar.total, unit)]
            for bar in panel.bars
        ]
    else:
        head, rows = _of_curves(panel, unit)
    shown = table(map(text, head), (map(text, row) for row in rows), right=range(1, len(head)))
    return element("details", element("summary", text(f"The numbers of {panel.name}")), shown)


def _of_curves(panel: Curves, unit: str) -> tuple[list[str], list[list[str]]]:
    """A row for each size, with a column for each group of a single model, or for each of several."""
    if len(panel.curves) == 1:
        curve = panel.curves[0][1]
        names = list(dict.fromkeys(group for point in curve.points for group, _ in point.groups))
        return [panel.name, *(GROUP_NAMES[group] for group in names), f"total ({unit})"], [
            [
                f"{point.at:,}",
                *(_size(dict(point.groups).get(group, 0), unit) for group in names),
                _size(point.total, unit),
            ]
            for point in curve.points
        ]
    totals = [{point.at: point.total for point in curve.points} for _, curve in panel.curves]
    places = sorted({at for each in totals for at in each})
    return [panel.name, *(f"{name} ({unit})" for name, _ in panel.curves)], [
        [f"{at:,}", *(_size(each[at], unit) if at in each else "" for each in totals)] for at in places
    ]


def _size(nbytes: int, unit: str) -> str:
    return format_bytes(nbytes, unit, label=False)
