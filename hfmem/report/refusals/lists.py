"""Of files that the rows of a list cannot be written to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.refusals.lists import OutFileError

__all__ = ["WORDS"]


def _out_file(error: OutFileError) -> str:
    faults = {
        "there": "is there already: go on with it by --resume, or name another file",
        "unreadable": f"cannot be used ({error.why}): name another file",
        "columns": "has other columns: use the options that it was written with, or name another file",
        "list": "has the rows of another list: add new models at its end, or name another file",
        "options": "has the rows of other options (its last column): use the same ones, or name another file",
    }
    return f"--out {error.file} {faults[error.fault]}"


WORDS: Final[dict[type, Callable[[Any], str]]] = {OutFileError: _out_file}
"""The words of each kind."""
