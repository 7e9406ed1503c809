"""Of what a page refuses that anyone may open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.errors import quoted
from hfmem.refusals.visits import BusyError, NotHereError, TooLongError, TooManyError, UnknownKeyError

__all__ = ["WORDS"]


def _too_many(error: TooManyError) -> str:
    of = f" of {error.option}" if error.option else ""
    return f"{error.given:,} {error.what}{of} are more than the {error.most:,} that this page takes at once"


def _too_long(error: TooLongError) -> str:
    what = "the name of a model" if error.option == "model" else error.option
    return f"{what} has more than {error.most:,} characters"


def _unknown_key(error: UnknownKeyError) -> str:
    meant = f" (did you mean '{error.meant}'?)" if error.meant else ""
    return f"{quoted(error.key)} is not an option of this page{meant}"


def _not_here(error: NotHereError) -> str:
    if error.option == "model":
        return (
            f"{quoted(error.value)} is not the id of a model on the Hub: files of a machine are for the command line, "
            "where the same question is `hfmem PATH`"
        )
    return (
        f"{error.option} {quoted(error.value)} is about the machine that serves this page, not yours: name what you "
        "have, or use the command line"
    )


def _busy(error: BusyError) -> str:
    if error.seconds is None:
        return "The page has as many visitors as it can serve: try again in a few seconds"
    return f"No answer within {error.seconds} s: try again, or ask for less at once"


WORDS: Final[dict[type, Callable[[Any], str]]] = {
    BusyError: _busy,
    NotHereError: _not_here,
    TooLongError: _too_long,
    TooManyError: _too_many,
    UnknownKeyError: _unknown_key,
}
"""The words of each kind."""
