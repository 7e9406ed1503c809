"""A page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hfmem.report.errors import Problem
from hfmem.report.html.fragments import fragment
from hfmem.report.html.lists import comparison
from hfmem.report.html.style import PAGE, STYLE
from hfmem.report.html.tags import element, text
from hfmem.report.values import Report

__all__ = ["document", "page"]

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What the page may load: nothing. A name that got through as a script would not run either."""


def page(reports: Sequence[Report], problems: Sequence[Problem] = (), unit: str = "GiB") -> str:
    """The page of one report, or of several beside each other and then one by one."""
    single = len(reports) == 1 and not problems
    known = [report for report in reports if report.estimate.known_total is not None]
    body = [] if single and known else [comparison(reports, problems, unit, style=False)]
    title = f"Memory of {reports[0].name}" if single else f"Memory of {len(reports) + len(problems)} models"
    return document(title, *body, *_each(known, unit, single=single))


def _each(reports: Sequence[Report], unit: str, *, single: bool) -> Iterator[str]:
    for report in reports:
        whole = fragment(report, unit, style=False)
        yield whole if single else element("details", element("summary", text(report.name)), whole, class_="hfmem")


def document(title: str, *body: str) -> str:
    """A document around fragments without a style of their own."""
    head = (
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        element("title", text(title)),
        element("style", PAGE, STYLE),
    )
    return f'<!doctype html>\n<html lang="en">\n{element("head", *head)}\n{element("body", *body)}\n</html>'
