"""The meter of the card in colour, for terminals that have them: the letters of its parts, and of the legend, on the
colour that the part has in pictures. The letters stay, so nothing is told by a colour alone.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import Final, Literal

from hfmem.report.colours import COLOURS, TOO_MUCH
from hfmem.report.fit import LETTERS
from hfmem.report.values import GROUP_NAMES

__all__ = ["Depth", "painted"]

Depth = Literal["", "256", "full"]
"""Which colours a terminal has: none, those of a table of 256, or all."""

_LEVELS: Final = (0, 95, 135, 175, 215, 255)  # of each of red, green and blue in the table of 256 colours
_FIRST: Final = 16  # the colours before those are the user's own
_METER: Final = re.compile(rf"(?<=\[)[{''.join(LETTERS.values())}.!]{{10,}}(?=\])")
_NAMED: Final = "|".join(map(re.escape, GROUP_NAMES.values()))
_LEGEND: Final = re.compile(
    rf"^ *(?:(?:[{''.join(LETTERS.values())}] (?:{_NAMED})|\. free|! too much)(?:  |$))+$", re.M
)
_KEYS: Final = re.compile(r"(?:(?<=  )|^)\S(?= [a-zA-Z])", re.M)


def painted(text: str, depth: Depth) -> str:
    """The text with its meters and their legend in colour."""
    if not depth or not _METER.search(text):
        return text
    colours = {letter: COLOURS[group] for group, letter in LETTERS.items()} | {"!": TOO_MUCH}

    def meter(found: re.Match[str]) -> str:
        runs = ((letter, len(list(run))) for letter, run in groupby(found[0]))
        return "".join(_on(letter * length, colours.get(letter), depth) for letter, length in runs)

    def legend(found: re.Match[str]) -> str:
        return _KEYS.sub(lambda key: _on(key[0], colours.get(key[0]), depth), found[0])

    return _LEGEND.sub(legend, _METER.sub(meter, text))


def _on(text: str, colour: str | None, depth: Depth) -> str:
    """A text on a colour, black or white by what is easier to read."""
    if colour is None:
        return text
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    ink = 30 if 0.2126 * _light(red) + 0.7152 * _light(green) + 0.0722 * _light(blue) > 0.179 else 97  # WCAG 2, 1.4.3
    ground = f"2;{red};{green};{blue}" if depth == "full" else f"5;{_in_table(red, green, blue)}"
    return f"\x1b[{ink};48;{ground}m{text}\x1b[0m"


def _light(value: int) -> float:
    """Relative luminance of a component of sRGB."""
    part = value / 255
    return part / 12.92 if part <= 0.03928 else float(((part + 0.055) / 1.055) ** 2.4)


def _in_table(*parts: int) -> int:
    """The colour of the table of 256 that is nearest."""
    red, green, blue = (min(range(6), key=lambda level: abs(_LEVELS[level] - part)) for part in parts)
    return _FIRST + 36 * red + 6 * green + blue
