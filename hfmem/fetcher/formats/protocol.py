"""What a file format is to the rest of the fetcher: spans of bytes it asks for, tensors and metadata it gives.

A format reads no file itself. Its reader is a generator that yields the spans it wants, one after another, and is sent
their bytes; it returns what they tell. So the same code reads a local file, a snapshot and the Hub.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hfmem.fetcher.values import TensorInfo
from hfmem.units import MIB

__all__ = ["FileContents", "Format", "Reading", "Span"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A range of bytes of a file, as Python slices: negative numbers count from the end.

    Attributes:
        start: its first byte.
        stop: the byte after its last one; None: the end of the file.
    """

    start: int
    stop: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContents:
    """What one file tells.

    Attributes:
        tensors: every tensor in it.
        metadata: what the file says of itself besides: values that JSON can hold.
    """

    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


Reading = Generator[Span, bytes, FileContents]
"""Yields a span, is sent its bytes (fewer where the file ends within it), and returns the contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A file format.

    Attributes:
        name: what people call it.
        suffixes: how the names of its files end, dots included.
        read: begins to read a file of the given name (for errors). It raises `InvalidHeaderError` for bytes that cannot
            be of this format, and trusts no length that a file states. None for a format whose files are known by
            their size alone.
        head: bytes of the beginning that hold most headers whole: they are fetched first, together.
        tail: bytes of the end that are needed in any case; 0 for formats that have nothing there.
        most_bytes: bytes that are read of one file at most.
        most_requests: spans that are fetched of one file at most.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[str], Reading] | None
    head: int = 4096
    tail: int = 0
    most_bytes: int = 64 * MIB
    most_requests: int = 64

    def matches(self, filename: str) -> bool:
        """Whether a file of this name is of this format."""
        return filename.endswith(self.suffixes)
