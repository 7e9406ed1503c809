"""Of files that the rows of a list cannot be written to, and of clusters that cannot read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.refusals.lists import ClusterError, OutFileError

__all__ = ["WORDS"]


def _out_file(error: OutFileError) -> str:
    faults = {
        "there": "is there already: go on with it by --resume, or name another file",
        "unreadable": f"cannot be used ({error.why}): name another file",
        "columns": "has other columns: use the options that it was written with, or name another file",
        "list": "has the rows of another list: add new models at its end, or name another file",
        "options": "has the rows of other options (its last column): use the same ones, or name another file",
        "parts": "is a folder of parts: go on with --executor ray, or name another file",
        "file": "is one file, and --executor ray writes a folder of parts: name another one",
        "busy": "is being written by another run: wait for it, or name another file",
    }
    return f"--out {error.file} {faults[error.fault]}"


def _cluster(error: ClusterError) -> str:
    why = ": ".join([error.kind, *error.why.splitlines()[:1]])
    if error.address:
        return f"--executor ray: no cluster at RAY_ADDRESS={error.address} ({why}): start it, or unset RAY_ADDRESS"
    return f"--executor ray: no cluster can be started ({why})"


WORDS: Final[dict[type, Callable[[Any], str]]] = {OutFileError: _out_file, ClusterError: _cluster}
"""The words of each kind."""
