"""Generated tables, each with the versions it was made from; `CONTRIBUTING.md` says how to make them again.

They are read as files beside this module: `importlib.resources` loads `zipfile` and `tempfile`, which takes longer than
most tables do.
"""

from __future__ import annotations

from mmap import ACCESS_READ, mmap
from pathlib import Path

__all__ = ["text", "view"]


def text(name: str) -> str:
    """A whole table.

    Raises:
        OSError: the package's file is not there.
    """
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def view(name: str) -> mmap:
    """A table of which only the looked-up lines are read: its bytes, mapped.

    Raises:
        OSError: the package's file is not there.
    """
    with Path(__file__).with_name(name).open("rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ)
