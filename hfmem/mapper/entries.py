"""Matching of a quantiser's lists of modules (skipped or quantised ones) against usual module names.

Lists may name a module for each layer and expert, and have a hundred thousand entries. They are indexed once: plain
entries for lookup, and patterns, of which there are few.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Final

from hfmem.mapper.expressions import Budget, Expression

__all__ = ["Entries"]

_MOST_ENTRIES: Final = 250_000  # per list; 3 matrices × 384 experts × 60 layers are 69,120
_MOST_PATTERNS: Final = 1_000
_LONGEST: Final = 512  # characters of an entry

_ROOTS: Final = (
    "model.layers.{}.",
    "model.language_model.layers.{}.",
    "language_model.model.layers.{}.",
    "layers.{}.",
    "transformer.h.{}.",
    "backbone.layers.{}.",
)

_IN_LAYER: Final = re.compile(r"(?:.*?\.)?(?:layers|h|blocks|layer)\.(\d{1,9}|\*)(?:\.(.*)|(\*))?")


class Entries:
    """An indexed list.

    An entry is a word or dotted path that may occur anywhere in a module name, a wildcard pattern, or a regular
    expression after `re:`. An entry with a layer number applies to the module at that path and everything below it.
    """

    def __init__(self, entries: Iterable[str], budget: Budget) -> None:
        self._budget = budget
        self._words: set[str] = set()
        self._patterns: dict[str, _Pattern] = {}
        self._paths: dict[str, set[int] | None] = {}  # path after the layer number -> layers; None: all layers
        self._beginnings: dict[str, set[int] | None] = {}  # the same for paths that end in a star
        self._words_in_layers: set[str] = set()
        self._patterns_in_layers: dict[str, _Pattern] = {}
        for entry in islice(entries, _MOST_ENTRIES):
            if len(entry) <= _LONGEST:
                self._sort(entry)

    def layers(self, names: Sequence[str], layers: frozenset[int]) -> frozenset[int]:
        """The layers in which the list matches a module, given the names that it may have within a layer."""
        found: set[int] = set()
        for name in names:
            if not self._words.isdisjoint(_runs(name)):
                return layers
            for numbers in self._numbered(name):
                if numbers is None:
                    return layers
                found |= numbers
        found &= layers
        for pattern in self._patterns.values():
            if len(found) == len(layers) or self._budget.spent:
                break
            found |= pattern.layers(names, layers - found)
        return frozenset(found)

    def name(self, names: Iterable[str]) -> bool:
        """Whether the list matches a module outside of the layers, given the names that it may have."""
        for name in names:
            if any(run in self._words or run in self._words_in_layers for run in _runs(name)):
                return True
            if any(pattern.is_about(name) for pattern in self._patterns.values()):
                return True
            if any(pattern.is_about(name) for pattern in self._patterns_in_layers.values()):
                return True
        return False

    def _sort(self, entry: str) -> None:
        match = None if entry.startswith("re:") else _IN_LAYER.fullmatch(entry)
        is_pattern = "*" in entry or entry.startswith("re:")
        if is_pattern:
            patterns = self._patterns if match is None else self._patterns_in_layers
            if len(patterns) < _MOST_PATTERNS and entry not in patterns:
                patterns[entry] = _Pattern(entry, self._budget)
        else:
            (self._words if match is None else self._words_in_layers).add(entry)
        if match is None:
            return
        rest = match[2] or match[3] or ""
        tail = rest.rstrip(".*")
        table = self._beginnings if tail and rest.endswith("*") else self._paths
        if match[1] == "*":
            table[tail] = None
        elif (numbers := table.setdefault(tail, set())) is not None:
            numbers.add(int(match[1]))

    def _numbered(self, name: str) -> Iterator[set[int] | None]:
        """The layers of each entry with a layer number that matches the module; None for all layers."""
        parts = name.split(".")
        for count in range(len(parts) + 1):
            path = ".".join(parts[:count])
            if path in self._paths:
                yield self._paths[path]
        if self._beginnings:
            beginnings = (name[:length] for length in range(1, len(name) + 1))
            yield from (self._beginnings[text] for text in beginnings if text in self._beginnings)


def _runs(name: str) -> list[str]:
    """All words and sub-paths of a dotted name."""
    parts = name.split(".")
    return [".".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)]


class _Pattern:
    """A wildcard pattern or regular expression, compiled only when a name starts with its literal prefix."""

    def __init__(self, entry: str, budget: Budget) -> None:
        self._budget = budget
        self._is_expression = entry.startswith("re:")
        self._text = entry.removeprefix("re:") if self._is_expression else _from_stars(entry)
        self._beginning = "" if self._is_expression else re.split(r"[*?\[]", entry, maxsplit=1)[0]
        self._counts_layers = _NUMBERED.search(_ANY_NUMBER.sub("", self._text)) is not None
        numbers = "layers" in self._text or "\\d" in self._text or self._counts_layers
        self._in_layers = self._is_expression and numbers

    def layers(self, names: Sequence[str], layers: frozenset[int]) -> frozenset[int]:
        """The layers in which it matches one of the names; a pattern without layer numbers matches in all layers."""
        if not self._in_layers:
            return layers if any(self.is_about(name) for name in names) else frozenset()
        if self._counts_layers:
            return frozenset(layer for layer in layers if any(self._in_roots(name, layer) for name in names))
        # without literal digits, a pattern can distinguish layer numbers only by their length: try one of each
        like = {len(str(layer)): layer for layer in layers}
        lengths = {length for length, layer in like.items() if any(self._in_roots(name, layer) for name in names)}
        return frozenset(layer for layer in layers if len(str(layer)) in lengths)

    def is_about(self, name: str) -> bool:
        """Whether it matches a name, as it is or within layer 0."""
        return self._matches(name) or self._in_roots(name, 0)

    def _in_roots(self, name: str, layer: int) -> bool:
        return any(self._matches(root.format(layer) + name) for root in _ROOTS)

    def _matches(self, name: str) -> bool:
        return name.startswith(self._beginning) and self._expression.matches(name, self._budget)

    @cached_property
    def _expression(self) -> Expression:
        return Expression(self._text if self._budget.spend(len(self._text)) else "(?!)")


_NUMBERED: Final = re.compile(r"[\d\[]")
_ANY_NUMBER: Final = re.compile(r"\\d|\{[\d,]*\}")
_STAR: Final = re.compile(r"(\*+)|(\?)|\[(!?)(\]?[^\]]*)\]")


def _from_stars(entry: str) -> str:
    """A shell wildcard pattern as a regular expression."""
    parts, end = [], 0
    for sign in _STAR.finditer(entry):
        parts.append(re.escape(entry[end : sign.start()]))
        inner = (sign[4] or "").replace("\\", "\\\\")
        parts.append(".*" if sign[1] else "." if sign[2] else f"[{'^' if sign[3] else ''}{inner}]")
        end = sign.end()
    return "".join((*parts, re.escape(entry[end:]), "$"))
