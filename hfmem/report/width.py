"""What a terminal's width does to text: lines are folded between words, and columns that are left out are named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

__all__ = ["command_lines", "fold", "items", "left_out", "narrowed", "shortened", "widest"]

_Column = TypeVar("_Column")
_PIECES: Final = re.compile(r"[^/_.,;:=-]*[/_.,;:=-]+|[^/_.,;:=-]+")


def fold(text: str, width: int) -> str:
    """A line as lines of at most `width`, the later ones indented by two more. A word is broken only where it is wider
    than a line, and then behind a slash or the like."""
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
    """Short texts in a row, or in several that are as wide as `width`; none is broken."""
    row = ""
    for text in texts:
        longer = f"{row}  {text}" if row else f"{'':{indent}}{text}"
        if row and width is not None and len(longer) > width:
            yield row
            longer = f"{'':{indent}}{text}"
        row = longer
    yield row


def command_lines(command: str, width: int | None) -> Iterator[str]:
    """A command to copy: what does not fit goes on in the next line, as a shell reads it."""
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
    """Characters of the longest line."""
    return max(map(len, text.splitlines()), default=0)


def narrowed(
    columns: Iterable[_Column],
    show: Callable[[Sequence[_Column]], str],
    width: int | None,
    least: Callable[[_Column], Any],
    kept: int,
) -> tuple[str, list[_Column]]:
    """A table with as many columns as fit, and those that do not.

    Args:
        columns: all of them, in order.
        show: the table with some of them.
        width: of the terminal; None where there is none.
        least: how little a column tells: the largest goes first.
        kept: how many stay, however narrow it is.
    """
    left, out = list(columns), []
    text = show(left)
    while width is not None and len(left) > kept and widest(text) > width:
        out.append(max(left, key=least))
        left.remove(out[-1])
        text = show(left)
    return text, out


def left_out(names: Sequence[str], whole: str = "") -> str:
    """The line below a table that has not all its columns; `whole` is the format that has."""
    return f"columns left out: {', '.join(names)}" + (f"; --format {whole} has all" if whole else "")


def shortened(name: str, width: int) -> str:
    """A name in so many characters; what is left out of its middle is shown as `…`."""
    if len(name) <= width:
        return name
    head = max(1, (width - 1) // 3)
    return f"{name[:head]}…{name[-max(1, width - 1 - head) :]}"
