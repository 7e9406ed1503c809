"""The interface of a file format: it requests spans of bytes, and returns tensors and metadata.

A format does no I/O. Its reader is a generator that yields the spans it needs one after another, is sent their bytes,
and returns the contents, so the same code reads local files, snapshots and the Hub.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hfmem.fetcher.values import TensorInfo
from hfmem.units import MIB

__all__ = ["FileContents", "Format", "Reading", "Span"]


class Span(NamedTuple):
    """A range of bytes of a file, like a Python slice: negative numbers count from the end.

    Attributes:
        start: offset of its first byte.
        stop: offset after its last byte; None for the end of the file.
    """

    start: int
    stop: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContents:
    """The contents of one file, as described by its header.

    Attributes:
        tensors: all its tensors.
        metadata: other metadata, as values that JSON can represent.
        length: bytes that the file should have by its header; None if the header does not determine it.
        faults: contradictions within the file, one clause each; with any, its numbers do not count as exact.
        unread: why nothing of it could be read, for a format that allows it; its size then counts.
    """

    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    length: int | None = None
    faults: tuple[str, ...] = ()
    unread: str = ""


Reading = Generator[Span, bytes, FileContents]
"""Yields a span, is sent its bytes (fewer if the file ends within it), and returns the contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A file format.

    Attributes:
        name: its common name.
        suffixes: suffixes of its files, with the dot.
        read: starts to read a file; its argument is the file's name, for errors. It raises `InvalidHeaderError` for
            bytes that are invalid in this format, and does not trust lengths stated in the file. None for a format of
            which only file sizes are used.
        head: bytes at the beginning that are fetched first, in one request; most headers are no longer.
        ahead: bytes at the beginning that one request is for, which ends after `head` where that is the whole header;
            0 where further bytes are requested only when they are needed.
        tail: bytes at the end that are always needed; 0 for none.
        most_bytes: maximum of bytes read per file.
        most_requests: maximum of requests per file.
        optional: whether a file that cannot be read counts by its size, as other software uses these suffixes too.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[str], Reading] | None
    head: int = 4096
    ahead: int = 0
    tail: int = 0
    most_bytes: int = 64 * MIB
    most_requests: int = 64
    optional: bool = False

    def matches(self, filename: str) -> bool:
        """Whether a file of this name has this format."""
        return filename.endswith(self.suffixes)
