"""Files of measurements that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from hfmem.errors import InvalidScenarioError

__all__ = ["LogError"]


class LogError(InvalidScenarioError):
    """A file that says nothing about memory.

    Attributes:
        name: of the file.
        why: whether it cannot be opened, is empty, is no text, has no line that is known, or has the lines of several
            servers.
        system: what the system says of one that cannot be opened.
        programs: the servers.
    """

    def __init__(
        self,
        name: str,
        why: Literal["unreadable", "empty", "binary", "unknown", "mixed"],
        *,
        system: str = "",
        programs: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self.name, self.why, self.system, self.programs = name, why, system, tuple(programs)
