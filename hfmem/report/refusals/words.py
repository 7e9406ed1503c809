"""The words of any refusal: a table of each topic, by the kind of the error."""

from __future__ import annotations

from hfmem.errors import InvalidScenarioError
from hfmem.report.refusals import files, options, splits, training, visits

__all__ = ["WORDS", "words"]

WORDS = {**options.WORDS, **files.WORDS, **splits.WORDS, **training.WORDS, **visits.WORDS}


def words(error: InvalidScenarioError) -> str:
    """What is wrong, without the full stop; "" for an error without fields."""
    told = next((WORDS[kind] for kind in type(error).__mro__ if kind in WORDS), None)
    return told(error) if told is not None else ""
