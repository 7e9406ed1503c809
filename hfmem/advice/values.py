"""What the advice on training returns, without the tables it is computed with."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Saving"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """A way to need less: the option that does it, and the total it leads to; whether that fits on the accelerator that
    was named, None where none was, or a part is unknown."""

    option: str
    what: str
    total: int
    fits: bool | None = None
