"""Of launch lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.refusals.launch import LaunchLineError, LaunchOptionError

__all__ = ["WORDS"]


def _line(error: LaunchLineError) -> str:
    if error.why == "quotes":
        return f"{error.line}: a quote is not closed"
    if error.why == "model":
        return f"{error.line} names no model"
    return f"{error.line} is not a launch line of {' or '.join(map(' '.join, error.programs))}"


def _option(error: LaunchOptionError) -> str:
    told = " ".join(filter(None, (*error.program, error.option, error.value)))
    return f"{told}: whether it takes memory is not known; --ignore={error.option} leaves it out, if it takes none"


WORDS: Final[dict[type, Callable[[Any], str]]] = {LaunchLineError: _line, LaunchOptionError: _option}
