"""A value that cannot be told, in place of the value."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Unknown"]


@dataclass(frozen=True, slots=True)
class Unknown:
    """What stands where a figure or a layout would, when it is not known.

    Attributes:
        reason: why, as a clause that a sentence can end with.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason
