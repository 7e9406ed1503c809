"""Files that the rows of a list cannot be written to."""

from __future__ import annotations

from typing import Literal

from hfmem.errors import InvalidScenarioError

__all__ = ["OutFileError"]


class OutFileError(InvalidScenarioError):
    """A file for rows that a run cannot take.

    Attributes:
        file: its path.
        fault: it is there already (`there`), cannot be read or written (`unreadable`), is no such table or one of other
            columns (`columns`), or has the rows of another list (`list`) or of other options (`options`).
        why: what the system says.
    """

    def __init__(
        self, file: object, fault: Literal["there", "unreadable", "columns", "list", "options"], *, why: str = ""
    ) -> None:
        super().__init__()
        self.file, self.fault, self.why = str(file), fault, why
