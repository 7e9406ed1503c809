"""Files that the rows of a list cannot be written to, and clusters that cannot read it."""

from __future__ import annotations

from typing import Literal

from hfmem.errors import InvalidScenarioError

__all__ = ["ClusterError", "OutFileError"]


class OutFileError(InvalidScenarioError):
    """A file for rows that a run cannot take.

    Attributes:
        file: its path.
        fault: it is there already (`there`), cannot be read or written (`unreadable`), is no such table or one of other
            columns (`columns`), has the rows of another list (`list`) or of other options (`options`), is a folder of
            parts where a file is to be (`parts`) or a file where a folder is to be (`file`), or another run writes to
            it (`busy`).
        why: what the system says.
    """

    def __init__(
        self,
        file: object,
        fault: Literal["there", "unreadable", "columns", "list", "options", "parts", "file", "busy"],
        *,
        why: str = "",
    ) -> None:
        super().__init__()
        self.file, self.fault, self.why = str(file), fault, why


class ClusterError(InvalidScenarioError):
    """No Ray cluster can be reached or started.

    Attributes:
        address: that of the cluster, from the environment; "" for none.
        kind: the class of the error.
        why: what Ray or the system says.
    """

    def __init__(self, address: str, *, kind: str, why: str) -> None:
        super().__init__()
        self.address, self.kind, self.why = address, kind, why
