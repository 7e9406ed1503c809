"""What stands between the marks of a command: `<!-- python -m NAME -->` … `<!-- end -->`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from tests.documents import accuracy, essay

__all__ = ["MARKED", "PIECES", "put_pieces"]

PIECES: Final[Mapping[str, Callable[[], str]]] = {**accuracy.PIECES, **essay.PIECES}

MARKED: Final = re.compile(r"<!-- python -m ([\w. -]+?) -->\n(.*?)<!-- end -->", re.DOTALL)
"""A command, and what stands between its marks."""


def put_pieces(text: str) -> str:
    """The page with each piece as it is now; those of other commands stay."""
    return MARKED.sub(_now, text)


def _now(found: re.Match[str]) -> str:
    command = found[1]
    return f"<!-- python -m {command} -->\n{PIECES[command]()}\n<!-- end -->" if command in PIECES else found[0]
