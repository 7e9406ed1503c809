"""The options in the form of the help: rows of two columns, by panel."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from hfmem.options.option import Declared
from hfmem.options.panels import HELP, in_order

__all__ = ["Row", "common", "definitions", "panels"]

Row = tuple[str, str]
"""Names with metavar, and description."""

_INDENT: Final = "  "
_BETWEEN: Final = 2
_WIDEST, _NARROWEST = 30, 16  # of the first column
_METAVARS: Final[dict[type, str]] = {int: "N", float: "X", Path: "FILE"}


def panels(options: Iterable[Declared]) -> list[tuple[str, list[Row]]]:
    """All options by panel."""
    found: dict[str, list[Row]] = {}
    for option in options:
        found.setdefault(option.option.panel, []).append(_row(option))
    return [(panel, found[panel]) for panel in in_order(set(found))]


def common(options: Iterable[Declared]) -> list[tuple[str, list[Row]]]:
    """The common options in one list, and how to see the others."""
    found = panels(option for option in options if option.option.common)
    rows = [row for panel, inner in found if panel != HELP for row in inner]
    return [("Options", rows), *(item for item in found if item[0] == HELP)]


def definitions(rows: Iterable[Row], width: int) -> Iterator[str]:
    """Lines of two columns, at most `width` wide. No word is broken; a list of choices is, after a `|`."""
    listed = list(rows)
    left = min(max((len(names) for names, _ in listed), default=0), _WIDEST, max(_NARROWEST, width // 3 + 4))
    hang = " " * (len(_INDENT) + left + _BETWEEN)
    for names, description in listed:
        heads = list(_folded(names, width))
        told = textwrap.wrap(description, width - len(hang), break_long_words=False, break_on_hyphens=False)
        if len(heads) == 1 and len(names) <= left and told:
            heads, told = [f"{heads[0]:{len(hang)}}{told[0]}"], told[1:]
        yield from heads
        yield from (hang + line for line in told)


def _folded(names: str, width: int) -> Iterator[str]:
    """The names of an option with its metavar, on as many lines as it takes."""
    line = _INDENT
    for piece in re.findall(r"[^ |]+[ |]*", names):
        if len(line) + len(piece.rstrip()) > width and line.strip():
            yield line.rstrip()
            line = 3 * _INDENT
        line += piece
    yield line


def _row(option: Declared) -> Row:
    names = ", ".join(option.flags) + (f" / {option.opposite}" if option.opposite else "")
    if option.kind is not bool:
        names += f" {_metavar(option)}"
    told = option.option.help + ("" if option.option.help.endswith("…") else ".")
    default = _default(option)
    return names, f"{told} [default: {default}]" if default else told


def _metavar(option: Declared) -> str:
    if option.option.metavar:
        return option.option.metavar
    return "|".join(option.choices) or _METAVARS.get(option.kind, "WORDS" if option.option.words else "NAME")


def _default(option: Declared) -> str:
    """The default in words; "" if it is not shown."""
    if option.option.shown is not None:
        return option.option.shown
    return "" if isinstance(option.default, bool) or option.default in (None, ()) else str(option.default)
