"""The options in the form of the help: rows of two columns, by panel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hfmem.options.option import Declared
from hfmem.options.panels import HELP, in_order

__all__ = ["Row", "common", "panels"]

Row = tuple[str, str]
"""Names with metavar, and description."""

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
