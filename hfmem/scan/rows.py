"""The rows of a long list: those of data frames, with the place in the list, what was asked, and the commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hfmem.advice.fit import machines
from hfmem.errors import (
    ConnectionSettingsError,
    HfmemError,
    HubUnreachableError,
    InvalidTokenError,
    OfflineError,
    RateLimitedError,
    UnexpectedAnswerError,
    UnforeseenError,
)
from hfmem.options.option import declared
from hfmem.report.fit import named_machine
from hfmem.report.flat import Kind, flat
from hfmem.report.values import Report
from hfmem.scenario.options import Options

__all__ = ["PASSING", "Layout", "placed"]

_FIRST: Final[dict[str, Kind]] = {"line": "integer", "asked": "text"}
_LAST: Final[dict[str, Kind]] = {"commit": "text", "options": "text"}

PASSING: Final = frozenset(
    kind.code()
    for kind in (
        ConnectionSettingsError,
        HubUnreachableError,
        InvalidTokenError,
        OfflineError,
        RateLimitedError,
        UnexpectedAnswerError,
        UnforeseenError,
    )
)
"""Failures that say something of the moment and not of the model: such a row is asked again when a run goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns of a run.

    Attributes:
        machines: the names of its accelerators.
        options: its options, as on the command line.
        kinds: the kind of each column, in order.
    """

    machines: tuple[str, ...]
    options: str
    kinds: dict[str, Kind]

    @classmethod
    def of(cls, options: Options) -> Layout:
        """The columns of a run with these options."""
        names = tuple(dict.fromkeys(named_machine(each) for each in machines(options)))
        kinds = {**_FIRST, **flat([], names).kinds, **_LAST}
        return cls(machines=names, options=_words(options), kinds=kinds)

    def row(self, answer: Report | HfmemError) -> dict[str, Any]:
        """The row of an answer, without a place in the list."""
        (found,) = flat([answer], self.machines).rows
        commit = answer.checkpoint.commit if isinstance(answer, Report) else None
        row = {**dict.fromkeys(self.kinds), **found, "commit": commit, "options": self.options}
        return {name: value for name, value in row.items() if name in self.kinds}


def placed(row: Mapping[str, Any], places: Iterable[tuple[int, str]]) -> list[dict[str, Any]]:
    """The row for each place in the list (from 1) that asks for it, with what it says there."""
    return [{**row, "line": line, "asked": asked} for line, asked in places]


def _words(options: Options) -> str:
    """The options that differ from their defaults, as words of a command line."""
    asked: Sequence[Any] = [option for option in declared(type(options)) if option.asked(options)]
    words = []
    for option in asked:
        value = getattr(options, option.name)
        each = value if isinstance(value, tuple) else (value,)
        words += [option.flags[0] if one is True else f"{option.flags[0]} {one}" for one in each]
    return " ".join(words)
