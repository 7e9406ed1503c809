"""The words of any refusal: a table of each topic, by the kind of the error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.errors import InvalidScenarioError
from hfmem.options.reading import not_one_of
from hfmem.refusals.files import DefaultsFileError
from hfmem.report.refusals import (
    against,
    files,
    launch,
    lists,
    media,
    options,
    pipelines,
    quantised,
    splits,
    training,
    visits,
)

__all__ = ["WORDS", "words"]


def _defaults_file(error: DefaultsFileError) -> str:
    """Here, as what is wrong with a value may be of any topic."""
    if error.known:
        why = f"{not_one_of(error.key, error.known)}, which may have a default"
    elif error.cause is not None:
        why = words(error.cause)
    else:
        why = f"{error.key} is not a table" if error.key else f"it cannot be read ({error.why})"
    return f"{error.file}: {why}. Correct it, or use --no-defaults"


WORDS: Final[dict[type, Callable[[Any], str]]] = {
    **options.WORDS,
    **files.WORDS,
    **launch.WORDS,
    **against.WORDS,
    **lists.WORDS,
    **media.WORDS,
    **pipelines.WORDS,
    **quantised.WORDS,
    **splits.WORDS,
    **training.WORDS,
    **visits.WORDS,
    DefaultsFileError: _defaults_file,
}


def words(error: InvalidScenarioError) -> str:
    """What is wrong, without the full stop; "" for an error without fields."""
    told = next((WORDS[kind] for kind in type(error).__mro__ if kind in WORDS), None)
    return told(error) if told is not None else ""
