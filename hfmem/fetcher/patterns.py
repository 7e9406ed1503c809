"""Many tensor names in few lines: `model.layers.{0-31}.mlp.up_proj.weight` stands for 32 of them.

A row is `[pattern, dtype, shape]`. In a pattern `{…}` holds whole numbers and inclusive ranges, `{0-2,5}`; several
braces stand for every combination, the last one counting fastest. The bundled catalog and the disk cache use this form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

__all__ = ["Row", "compress", "expand", "expand_name"]

Row = tuple[str, str, tuple[int, ...]]

_BRACES = re.compile(r"\{([0-9,\-]+)\}")
# a whole name part that is a number: the 7 of `layers.7.mlp`, not of `fc1`, nor one with leading zeros
_NUMBER = re.compile(r"(?<![^.])(?:0|[1-9]\d*)(?![^.])")


def expand_name(pattern: str) -> Iterator[str]:
    """The names a pattern stands for, in counting order."""
    pieces = _BRACES.split(pattern)
    texts, ranges = pieces[::2], [list(_numbers(piece)) for piece in pieces[1::2]]
    for indices in product(*ranges):
        yield texts[0] + "".join(f"{index}{text}" for index, text in zip(indices, texts[1:], strict=True))


def expand(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with every pattern spelled out."""
    for pattern, dtype, shape in rows:
        for name in expand_name(pattern):
            yield name, dtype, shape


def compress(rows: Iterable[Row]) -> list[Row]:
    """Patterns that stand for exactly the given rows, ordered by first appearance.

    `expand(compress(rows))` gives the same set of rows; the order may differ.

    Raises:
        ValueError: a name holds a brace, so it would be read back as a pattern.
    """
    current = list(rows)
    if any("{" in name or "}" in name for name, _, _ in current):
        raise ValueError("a tensor name holds a brace")
    depth = max((len(_NUMBER.findall(name)) for name, _, _ in current), default=0)
    for position in range(depth - 1, -1, -1):
        current = _fold(current, position)
    return current


def _fold(rows: Sequence[Row], position: int) -> list[Row]:
    """Join rows that differ only in their number at `position` (counted over the numbers not yet in braces)."""
    groups: dict[tuple[str, str, str, tuple[int, ...]], list[int]] = {}
    for name, dtype, shape in rows:
        numbers = list(_NUMBER.finditer(name))
        if position < len(numbers):
            match = numbers[position]
            key = (name[: match.start()], name[match.end() :], dtype, shape)
            groups.setdefault(key, []).append(int(match.group()))
        else:
            groups.setdefault((name, "", dtype, shape), [])
    return [
        (before + (_braces(indices) if indices else "") + after, dtype, shape)
        for (before, after, dtype, shape), indices in groups.items()
    ]


def _braces(indices: list[int]) -> str:
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    if len(runs) == 1 and runs[0][0] == runs[0][1]:
        return str(runs[0][0])
    return "{" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) + "}"


def _numbers(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
