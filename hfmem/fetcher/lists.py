"""Lists of models, from a file or from standard input."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from hfmem.errors import InvalidScenarioError
from hfmem.fetcher.files import as_text, read_text, too_long

__all__ = ["read_list"]

_LONGEST: Final = 64 * 2**20
"""Bytes of a list of models: every id of the Hub takes some fifty megabytes."""


def read_list(source: str) -> list[str]:
    """One model a line, of a file or of `-`, standard input; blank lines and what follows a # are skipped.

    Raises:
        InvalidScenarioError: it cannot be read.
    """
    try:
        text = _stdin() if source == "-" else read_text(Path(source), _LONGEST)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise InvalidScenarioError("", f"--from {source} cannot be read: {why}") from error
    if len(text) > _LONGEST:
        raise InvalidScenarioError("", f"--from {source} cannot be read: {too_long(_LONGEST)}")
    return [name for line in re.split(r"[\r\n]+", text) if (name := line.partition("#")[0].strip())]


def _stdin() -> str:
    """The text on standard input; one byte more than is taken shows that there is too much."""
    if sys.stdin is None:
        raise OSError(0, "standard input is closed")
    return as_text(sys.stdin.buffer.read(_LONGEST + 1))
