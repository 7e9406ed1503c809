"""The mark of a remark that the answer is of something else than was asked."""

from __future__ import annotations

__all__ = ["Otherwise"]


class Otherwise(str):
    """A remark that what was asked has no effect, or is answered otherwise: another state, fewer accelerators.

    It goes among the other notes. Where an output has no place for them, the command line tells those with this mark:
    whoever reads only a figure must know that it is not the one that was asked for.
    """

    __slots__ = ()
