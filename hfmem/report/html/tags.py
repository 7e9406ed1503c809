"""Elements of HTML and SVG, with all text and attributes escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from hfmem.report.escapes import line

__all__ = ["element", "table", "text"]


def text(words: object) -> str:
    """Text on one line, with invisible characters shown and markup escaped."""
    return escape(line(str(words)))


def element(name: str, /, *inner: str, **attributes: str | int | float | None) -> str:
    """An element around markup. `class_` is `class`, and `_` in names is `-`; attributes that are None are left out."""
    given = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    written = "".join(f' {key}="{text(value)}"' for key, value in given if value is not None)
    return f"<{name}{written}>{''.join(inner)}</{name}>"


def table(head: Iterable[str], rows: Iterable[Iterable[str]], right: Iterable[int] = ()) -> str:
    """A table of markup; columns whose numbers are in `right` are aligned there. It scrolls where it is too wide."""
    aligned = set(right)

    def cells(kind: str, row: Iterable[str]) -> str:
        return "".join(
            element(kind, cell, class_="n" if number in aligned else None, scope="col" if kind == "th" else None)
            for number, cell in enumerate(row)
        )

    heading = list(head)
    top = element("thead", element("tr", cells("th", heading))) if any(heading) else ""
    body = element("tbody", *(element("tr", cells("td", row)) for row in rows))
    return element("div", element("table", top, body), class_="wide")
