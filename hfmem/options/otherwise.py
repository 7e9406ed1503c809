"""Marks on remarks: that a report is for something other than requested, or that a remark changes no decision."""

from __future__ import annotations

__all__ = ["Detail", "Otherwise"]


class Otherwise(str):
    """A remark that an option has no effect, or that the report is for something other than requested: another
    revision, fewer accelerators.

    It is one of the notes. For output formats without notes, the command line prints remarks with this mark on stderr,
    as someone who reads only a figure must know that it is not the requested one.
    """

    __slots__ = ()


class Detail(str):
    """A remark on how an answer was made, which changes no decision: which default was taken, which tensors are not
    loaded.

    It is one of the notes. The card shows it with `--explain` only; JSON has all notes.
    """

    __slots__ = ()
