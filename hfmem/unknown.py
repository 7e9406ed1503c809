"""The result in place of a value that cannot be determined."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Unknown"]


@dataclass(frozen=True, slots=True)
class Unknown:
    """An unknown figure or layout.

    Attributes:
        reason: why it is unknown, as a clause for the end of a sentence.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason
