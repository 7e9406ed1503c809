"""Regular expressions from untrusted files, matched in bounded time.

Python's `re` backtracks over all ways to split a text, which for `.?.?.?…` and `(.|.)(.|.)…` takes exponential time.
It is used only for expressions with few ways. Others are matched by simulating an NFA with cached transitions
(Thompson, CACM 11(6), 1968). Expressions with many ways that an NFA cannot represent (lookaround, backreferences, word
boundaries) match nothing. Each step counts against a budget that all expressions of a config share.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import comb
from typing import Any, Final

__all__ = ["Budget", "Expression"]

_LONGEST: Final = 400  # characters of an expression; an alternation over a hundred layers has about as many
_MOST_STATES: Final = 2_000
_DEEPEST: Final = 20  # nested groups
_LONGEST_NAME: Final = 64  # assumed length of a module name, to bound the number of ways
_FEW_WAYS: Final = 500  # up to here `re` is used
_MOST_WAYS: Final = 10_000  # up to here `re` is used for expressions that the NFA cannot represent
_CHARACTERS_A_STEP: Final = 4  # a cached transition is about this much cheaper than a new one
_WAYS_A_STEP: Final = 100  # a way tried by `re` is about this much cheaper than a step of the NFA

_TOKEN: Final = re.compile(
    r"(?P<one>\\[dDwWsS]|\\[^\w\s]|\[\^?\]?(?:\\[dDwWsS]|\\[^\w\s]|[^\]\\\[])*\]|[^\\\[\](){}*+?|^$])"
    r"|(?P<repeat>(?:[*+?]|\{(?P<low>\d{0,3})(?P<to>,(?P<high>\d{0,3}))?\})\??(?![*+?{]))"
    r"|(?P<open>\((?:\?:|\?P<\w+>)?(?!\?))|(?P<close>\))|(?P<or>\|)|(?P<at>[\^$])"
)
_AROUND: Final = re.compile(r"\(\?<?[=!]")
_UNBOUND: Final = re.compile(r"\)[*+{]|\\[1-9]|\(\?P=|\(\?\(")
_CHOICES: Final = re.compile(r"[?|]")
_OPEN: Final = re.compile(r"[*+]|\{\d*,\d*\}")
_DOUBTFUL: Final = re.compile(r"\[[^\]]*(?:\[|--|&&|~~|\|\|)")
"""Syntax that a later Python may interpret differently, and that causes a FutureWarning in this one."""
_TRAILING: Final = re.compile(r"(?:\.\*)+\$?$")


class UnreadableError(Exception):
    """An expression that the NFA cannot represent, or not with a reasonable number of states."""


class Budget:
    """The steps that all expressions of a config may take together."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def spend(self, steps: int) -> bool:
        """Take steps from the budget; False once it is exhausted."""
        self._left -= steps
        return self._left >= 0

    @property
    def spent(self) -> bool:
        """Whether the budget is exhausted."""
        return self._left <= 0


_Node = tuple[Any, ...]
"""A node of the syntax tree: (`one`, test), (`at`, `^` or `$`), (`row`, *parts), (`any`, *parts),
(`repeat`, part, least, most)."""


class Expression:
    """One expression. Invalid or too long ones, and those that could take exponential time, match nothing."""

    def __init__(self, text: str) -> None:
        self._states: list[tuple[Any, ...]] = [("end",)]
        self._moves: dict[tuple[int, str], int] = {}
        self._sets: list[frozenset[int]] = []
        self._numbers: dict[frozenset[int], int] = {}
        self._plain: re.Pattern[str] | None = None
        self._ways = 0
        self._start: int | None = None
        text = _TRAILING.sub("", text)  # matches need not reach the end, so trailing `.*` only costs time
        try:
            compiled = None if len(text) > _LONGEST or _DOUBTFUL.search(text) else re.compile(text)
        except (re.error, OverflowError, RecursionError):
            compiled = None
        if compiled is None:
            return
        self._ways = _ways(text)
        if self._ways <= _FEW_WAYS:
            self._plain = compiled
            return
        try:
            self._start = self._build(_Reader(text).whole(), 0)
        except UnreadableError:
            self._plain = compiled if self._ways <= _MOST_WAYS else None

    @property
    def readable(self) -> bool:
        """Whether the expression is supported; otherwise it matches nothing."""
        return self._plain is not None or self._start is not None

    def matches(self, text: str, budget: Budget) -> bool:
        """Whether the expression matches at the beginning of a text; False once the budget is exhausted."""
        if self._plain is not None:
            return budget.spend(1 + self._ways // _WAYS_A_STEP) and self._plain.match(text) is not None
        if self._start is None or not budget.spend(1 + len(text) // _CHARACTERS_A_STEP):
            return False
        here = self._number(self._closure({self._start}, first=True))
        for character in text:
            if 0 in self._sets[here]:
                return True
            there = self._moves.get((here, character))
            if there is None:
                found = self._after(self._sets[here], character)
                if not budget.spend(1 + len(self._sets[here]) + len(found)):
                    return False
                there = self._moves[here, character] = self._number(found)
            here = there
            if not self._sets[here]:
                return False
        return 0 in self._closure(self._sets[here], first=not text, last=True)

    def _number(self, states: frozenset[int]) -> int:
        if states not in self._numbers:
            self._numbers[states] = len(self._sets)
            self._sets.append(states)
        return self._numbers[states]

    def _after(self, states: frozenset[int], character: str) -> frozenset[int]:
        """The states after consuming a character."""
        ones = (self._states[number] for number in states)
        return self._closure({one[2] for one in ones if one[0] == "one" and one[1](character)})

    def _closure(self, states: set[int] | frozenset[int], *, first: bool = False, last: bool = False) -> frozenset[int]:
        """The states plus those reached without consuming a character; `first` at the beginning of the text, `last` at
        its end. `$` states stay in the set, as the end may still come."""
        found: set[int] = set()
        left = list(states)
        while left:
            number = left.pop()
            if number in found:
                continue
            found.add(number)
            kind, *rest = self._states[number]
            if kind == "split":
                left += rest
            elif (kind == "^" and first) or (kind == "$" and last):
                left.append(rest[0])
        return frozenset(found)

    def _add(self, *state: Any) -> int:
        if len(self._states) >= _MOST_STATES:
            raise UnreadableError
        self._states.append(state)
        return len(self._states) - 1

    def _build(self, node: _Node, then: int) -> int:
        """Add the states of a node that continues with state `then`; returns its first state."""
        kind, *rest = node
        if kind == "one":
            return self._add("one", rest[0], then)
        if kind == "at":
            return self._add(rest[0], then)
        if kind == "row":
            for part in reversed(rest):
                then = self._build(part, then)
            return then
        if kind == "any":
            return self._add("split", *(self._build(part, then) for part in rest))
        part, least, most = rest
        if most is None:
            loop = self._add("split", then)
            self._states[loop] = ("split", self._build(part, loop), then)
            then = loop
        for _ in range((most or least) - least):
            then = self._add("split", self._build(part, then), then)
        for _ in range(least):
            before, then = then, self._build(part, then)
            if then == before:  # an empty part: repeating it adds nothing
                break
        return then


class _Reader:
    """Parses the text of an expression that `re` accepts."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._deep = 0

    def whole(self) -> _Node:
        """The syntax tree of the whole text.

        Raises:
            UnreadableError: it has syntax that the NFA cannot represent.
        """
        found = self._choice()
        if self._at < len(self._text):
            raise UnreadableError
        return found

    def _peek(self) -> re.Match[str] | None:
        if self._at >= len(self._text):
            return None
        token = _TOKEN.match(self._text, self._at)
        if token is None:
            raise UnreadableError
        return token

    def _choice(self) -> _Node:
        parts = [("row", *self._row())]
        while (token := self._peek()) is not None and token["or"]:
            self._at = token.end()
            parts.append(("row", *self._row()))
        return parts[0] if len(parts) == 1 else ("any", *parts)

    def _row(self) -> Iterator[_Node]:
        while (token := self._peek()) is not None and not (token["or"] or token["close"]):
            self._at = token.end()
            if token["at"]:
                yield "at", token["at"]
                continue
            if token["repeat"]:
                raise UnreadableError
            part = self._group() if token["open"] else ("one", _test(token["one"]))
            if (sign := self._peek()) is not None and sign["repeat"]:
                self._at = sign.end()
                part = ("repeat", part, *_bounds(sign))
            yield part

    def _group(self) -> _Node:
        self._deep += 1
        if self._deep > _DEEPEST:
            raise UnreadableError
        found = self._choice()
        token = self._peek()
        if token is None or not token["close"]:
            raise UnreadableError
        self._at = token.end()
        self._deep -= 1
        return found


def _test(one: str) -> Callable[[str], object]:
    """A test whether a character matches a token (a literal, an escape or a character class)."""
    if len(one) == 1 and one != ".":
        return one.__eq__
    if len(one) == 2 and not one[1].isalnum():
        return one[1].__eq__
    return re.compile(one).match


def _bounds(sign: re.Match[str]) -> tuple[int, int | None]:
    """Minimum and maximum of a quantifier; None for no maximum."""
    if sign["repeat"][0] != "{":
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign["repeat"][0]]
    if not (sign["low"] or sign["high"]):
        raise UnreadableError  # `re` treats `{}` and `{,}` as literal characters
    least = int(sign["low"] or 0)
    if sign["to"] is None:
        return least, least
    return least, int(sign["high"]) if sign["high"] else None


def _ways(text: str) -> int:
    """An upper bound on the ways to match a name: positions to split it for each unbounded repeat, times 2 for each
    other choice."""
    if _UNBOUND.search(text):
        return _MOST_WAYS + 1
    text = re.sub(r"([*+?}])\?", r"\1", _AROUND.sub("(", text))
    repeats = len(_OPEN.findall(text))
    choices = len(_CHOICES.findall(text))
    return comb(_LONGEST_NAME + repeats, repeats) << min(choices, 32)
