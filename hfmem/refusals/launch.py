"""Launch lines that cannot be checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from hfmem.errors import InvalidScenarioError, quoted

__all__ = ["LaunchLineError", "LaunchOptionError"]


class LaunchLineError(InvalidScenarioError):
    """A line that is not understood.

    Attributes:
        line: its beginning.
        why: whether it begins with no program that is known, names no model, or has an odd number of quotes.
        programs: the words that begin the lines of those that are known.
    """

    def __init__(
        self, line: str, why: Literal["program", "model", "quotes"], programs: Iterable[tuple[str, ...]] = ()
    ) -> None:
        super().__init__()
        self.line, self.why, self.programs = quoted(line), why, tuple(programs)


class LaunchOptionError(InvalidScenarioError):
    """An option of a program of which nobody here knows whether it takes memory.

    Attributes:
        program: the words that begin the line.
        option: the option.
        value: its value, if that is what is not known.
    """

    def __init__(self, program: Iterable[str], option: str, value: str = "") -> None:
        super().__init__()
        self.program, self.option, self.value = tuple(program), option, value
