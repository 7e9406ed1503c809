"""A compact form of tensor lists: `model.layers.{0-31}.mlp.up_proj.weight` stands for 32 tensors.

A row is `[pattern, dtype, shape]`. In a pattern, `{…}` contains integers and inclusive ranges, `{0-2,5}`; several
braces stand for all combinations, with the last one varying fastest. The bundled catalog and the disk cache use this
form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product

__all__ = ["Row", "compress", "count_names", "divided", "expand", "expand_name", "first_name", "has_whole_parts"]

Row = tuple[str, str, tuple[int, ...]]

_BRACES = re.compile(r"\{([0-9,\-]+)\}")
_WHOLE = re.compile(r"(?<![^.])\{[0-9,\-]+\}(?![^.])")
# a name part that is a number, such as the 7 in `layers.7.mlp`; not that in `fc1`, and not with leading zeros
_NUMBER = re.compile(r"(?<![^.])(0|[1-9]\d*)(?![^.])")


def expand_name(pattern: str) -> Iterator[str]:
    """The names that a pattern stands for, in numeric order."""
    pieces = _BRACES.split(pattern)
    ends = [
        [f"{number}{text}" for number in _numbers(braces)]
        for braces, text in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    return map("".join, product(pieces[:1], *ends))


def first_name(pattern: str) -> str:
    """The first name a pattern stands for; the others are not made, however many they are."""
    return _BRACES.sub(lambda braces: str(next(_numbers(braces.group(1)))), pattern)


def count_names(pattern: str) -> int:
    """The number of names that a pattern stands for, without expanding it."""
    count = 1
    for braces in _BRACES.findall(pattern):
        count *= sum(last - first + 1 for first, last in _runs(braces))
    return count


def has_whole_parts(pattern: str) -> bool:
    """Whether its numbers are parts of their own: `layers.{0-3}.mlp`, not `fc{1-2}`."""
    return len(_WHOLE.findall(pattern)) == len(_BRACES.findall(pattern))


def divided(braces: str, wanted: Callable[[int], bool]) -> tuple[str, str]:
    """The numbers of `{…}` that are wanted, and the others, each as a pattern writes them; "" for none."""
    numbers = sorted(_numbers(braces[1:-1]))
    chosen = [number for number in numbers if wanted(number)]
    others = [number for number in numbers if not wanted(number)]
    return _braces(chosen) if chosen else "", _braces(others) if others else ""


def expand(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with all patterns expanded."""
    for pattern, dtype, shape in rows:
        for name in expand_name(pattern):
            yield name, dtype, shape


def compress(rows: Iterable[Row]) -> list[Row]:
    """Patterns that stand for exactly the given rows, in order of first appearance.

    `expand(compress(rows))` is the same set of rows; the order may differ.

    Raises:
        ValueError: a name contains a brace, and would be read back as a pattern.
    """
    groups: dict[tuple[tuple[str, ...], str, tuple[int, ...]], list[tuple[str, ...]]] = {}
    for name, dtype, shape in rows:
        if "{" in name or "}" in name:
            raise ValueError("a tensor name contains a brace")
        pieces = _NUMBER.split(name)
        groups.setdefault((tuple(pieces[::2]), dtype, shape), []).append(tuple(pieces[1::2]))
    return [
        (_join(texts, numbers), dtype, shape)
        for (texts, dtype, shape), indices in groups.items()
        for numbers in _fold([tuple((int(index),) for index in each) for each in indices])
    ]


_Numbers = tuple[tuple[int, ...], ...]  # for each position in a name, the numbers at it


def _fold(rows: list[_Numbers]) -> list[_Numbers]:
    """Merge rows that differ at one position only, starting with the last position."""
    for place in range(len(rows[0]) - 1, -1, -1):
        joined: dict[tuple[_Numbers, _Numbers], list[int]] = {}
        for row in rows:
            joined.setdefault((row[:place], row[place + 1 :]), []).extend(row[place])
        rows = [(*before, tuple(sorted(numbers)), *after) for (before, after), numbers in joined.items()]
    return rows


def _join(texts: Sequence[str], numbers: _Numbers) -> str:
    return texts[0] + "".join(_braces(each) + text for each, text in zip(numbers, texts[1:], strict=True))


def _braces(indices: Sequence[int]) -> str:
    """Ascending numbers in pattern syntax; a single one without braces."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    if len(runs) == 1 and runs[0][0] == runs[0][1]:
        return str(runs[0][0])
    return "{" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) + "}"


def _numbers(text: str) -> Iterator[int]:
    for first, last in _runs(text):
        yield from range(first, last + 1)


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """The inclusive ranges in braces."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        run = int(first), int(last or first)
        if run[1] < run[0]:
            raise ValueError(f"no range of numbers: {part}")
        yield run
