"""Fits text to the width of a terminal: folds lines between words, and omits columns, which are named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

__all__ = ["command_lines", "fold", "items", "left_out", "narrowed", "shortened", "widest"]

_Column = TypeVar("_Column")
_PIECES: Final = re.compile(r"[^/_.,;:=-]*[/_.,;:=-]+|[^/_.,;:=-]+")


def fold(text: str, width: int) -> str:
    """A line folded to at most `width` columns, with continuation lines indented by two. A word is only broken if it is
    wider than a line, and then after a slash or the like."""
    hang = " " * (2 + len(text) - len(text.lstrip()))
    lines: list[str] = []
    line, gap = "", ""
    for piece in re.findall(r"\s+|\S+(?: × \S+)*", text):
        if piece.isspace():
            gap = piece
            continue
        for part in [piece] if len(hang) + len(piece) <= width else _PIECES.findall(piece):
            if not line or len(line) + len(gap) + len(part) <= width:
                line += gap + part
            else:
                lines.append(line)
                line = hang + part
            gap = ""
    return "\n".join([*lines, line])


def items(texts: Iterable[str], indent: int, width: int | None) -> Iterator[str]:
    """Short texts joined to lines of at most `width` columns; none is broken."""
    row = ""
    for text in texts:
        longer = f"{row}  {text}" if row else f"{'':{indent}}{text}"
        if row and width is not None and len(longer) > width:
            yield row
            longer = f"{'':{indent}}{text}"
        row = longer
    yield row


def command_lines(command: str, width: int | None) -> Iterator[str]:
    """A command to copy, with line continuations for the shell."""
    if "\n" in command:  # lines of a file
        yield from command.splitlines()
        return
    words = re.split(r" (?=-)", command)  # an option stays beside its value
    line = words[0]
    for word in words[1:]:
        if width is None or len(line) + len(word) + 3 <= width:
            line += f" {word}"
        else:
            yield f"{line} \\"
            line = f"    {word}"
    yield line


def widest(text: str) -> int:
    """The length of the longest line."""
    return max(map(len, text.splitlines()), default=0)


def narrowed(
    columns: Iterable[_Column],
    show: Callable[[Sequence[_Column]], str],
    width: int | None,
    least: Callable[[_Column], Any],
    kept: int,
) -> tuple[str, list[_Column]]:
    """A table with as many columns as fit, and the omitted columns.

    Args:
        columns: all columns, in order.
        show: renders a table with some of the columns.
        width: columns of the terminal; None without one.
        least: key of a column; the column with the largest value is omitted first.
        kept: minimum number of columns, at any width.
    """
    left, out = list(columns), []
    text = show(left)
    while width is not None and len(left) > kept and widest(text) > width:
        out.append(max(left, key=least))
        left.remove(out[-1])
        text = show(left)
    return text, out


def left_out(names: Sequence[str], whole: str = "") -> str:
    """The line below a table with omitted columns; `whole` is a format that shows all."""
    return f"columns left out: {', '.join(names)}" + (f"; --format {whole} has all" if whole else "")


def shortened(name: str, width: int) -> str:
    """A name shortened to `width` characters, with `…` in place of its middle."""
    if len(name) <= width:
        return name
    head = max(1, (width - 1) // 3)
    return f"{name[:head]}…{name[-max(1, width - 1 - head) :]}"
