"""Marks remarks that a report is for something other than requested."""

from __future__ import annotations

__all__ = ["Otherwise"]


class Otherwise(str):
    """A remark that an option has no effect, or that the report is for something other than requested: another
    revision, fewer accelerators.

    It is one of the notes. For output formats without notes, the command line prints remarks with this mark on stderr,
    as someone who reads only a figure must know that it is not the requested one.
    """

    __slots__ = ()
