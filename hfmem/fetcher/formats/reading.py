"""Reads a file of any format from any source: the format yields spans, and a function fetches their bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from hfmem.errors import InvalidFileError
from hfmem.fetcher.formats.protocol import FileContents, Format, Span
from hfmem.fetcher.formats.table import format_of
from hfmem.fetcher.values import TensorInfo

__all__ = ["Fetch", "Piece", "contents_notes", "is_whole", "read_contents", "tensors_of"]


class Piece(NamedTuple):
    """Fetched bytes of a file.

    Attributes:
        content: the requested bytes; fewer if the file ends within the range.
        size: bytes of the whole file; None if unknown.
    """

    content: bytes
    size: int | None = None


Fetch = Callable[[int, int], Piece]
"""Fetches the bytes of a file from the first offset up to, but not including, the second."""


def read_contents(
    format_: Format, file: str, fetch: Fetch, size: int | None = None, *, near: bool = False
) -> FileContents:
    """The contents of a file.

    Args:
        format_: its format.
        file: its name, for errors.
        fetch: fetches its bytes: first the head in one request, then the tail if the format has one.
        size: bytes of the file according to a listing; only used if no response of `fetch` contains the size.
        near: whether the file is on this machine, so that any number of requests may be made.

    Raises:
        InvalidFileError: the bytes are invalid in this format, or its header exceeds the format's limits.
    """
    if format_.read is None:
        return FileContents(tensors=())
    window = _Window(format=format_, file=file, fetch=fetch, listed=size, near=near)
    try:
        return _read(format_, file, window)
    except InvalidFileError as error:
        if not format_.optional:
            raise
        return FileContents(tensors=(), unread=error.reason)


def _read(format_: Format, file: str, window: _Window) -> FileContents:
    assert format_.read is not None  # noqa: S101 - the caller has looked
    window.read(Span(start=0, stop=format_.head))
    if format_.tail:
        window.read(Span(start=-format_.tail, stop=None))
    reading = format_.read(file)
    try:
        wanted = next(reading)
        while True:
            wanted = reading.send(window.read(wanted))
    except StopIteration as finished:
        return _measured(finished.value, window)


def is_whole(format_: Format, file: str, content: bytes) -> bool:
    """Whether the beginning of a file has all of its header.

    Args:
        format_: its format.
        file: its name, for errors.
        content: the beginning.
    """
    if format_.read is None:
        return True
    reading = format_.read(file)
    try:
        wanted = next(reading)
        while True:
            wanted = reading.send(content[wanted.start : wanted.stop])
    except StopIteration:
        return True
    except InvalidFileError:
        return False


def tensors_of(contents: Mapping[str, FileContents]) -> tuple[TensorInfo, ...]:
    """The tensors of all files; none where one of them could not be read, as a part is no model."""
    if any(file.unread for file in contents.values()):
        return ()
    return tuple(tensor for file in contents.values() for tensor in file.tensors)


def contents_notes(contents: Mapping[str, FileContents]) -> tuple[str, ...]:
    """A sentence if none of the weight files contains a tensor, or if one of them could not be read."""
    if unread := next((file.unread for file in contents.values() if file.unread), ""):
        words = "The" + unread.removeprefix("the") if unread.startswith("the ") else unread
        return (f"{words}; the sizes of the weight files are used.",)
    files = [name for name in contents if (format_ := format_of(name)) is not None and format_.read]
    if not files or any(file.tensors for file in contents.values()):
        return ()
    if len(files) == 1:
        return (f"{files[0]} contains no tensors, so it is not counted.",)
    return (f"{files[0]} and {len(files) - 1:,} more files contain no tensors, so they are not counted.",)


def _measured(contents: FileContents, window: _Window) -> FileContents:
    """The contents, with a fault if the file's length differs from that stated in its header."""
    size = window.listed if window.end is None else window.end
    if size is None or contents.length in (None, size):
        return contents
    fault = f"{window.file} has {size:,} bytes, but {contents.length:,} by its header"
    return replace(contents, faults=(*contents.faults, fault))


@dataclass(slots=True, kw_only=True)
class _Window:
    """The bytes of a file fetched so far.

    Attributes:
        end: bytes of the file, once a response has contained its size.
        pieces: the fetched pieces, each with the offset of its first byte.
        fetched: bytes requested so far.
    """

    format: Format
    file: str
    fetch: Fetch
    listed: int | None
    near: bool
    end: int | None = None
    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    fetched: int = 0

    def read(self, span: Span) -> bytes:
        """The bytes of a span, fetched if necessary; bytes beyond the end of the file are omitted."""
        position, stop = self._resolve(span)
        parts: list[bytes] = []
        while position < stop and (self.end is None or position < self.end):
            part = self._here(position, stop)
            if part:
                parts.append(part)
                position += len(part)
            else:
                self._bring(position, stop)
        return b"".join(parts)

    def _resolve(self, span: Span) -> tuple[int, int]:
        if span.start >= 0 and span.stop is not None and span.stop >= 0:
            return span.start, span.stop
        size = self.listed if self.end is None else self.end
        if size is None:
            raise InvalidFileError("", f"the size of {self.file} is unknown, which {self.format.name} needs")
        start, stop, _ = slice(span.start, span.stop).indices(size)
        return start, stop

    def _here(self, position: int, stop: int) -> bytes:
        """The bytes from a position up to the end of the piece that contains it; empty if it has to be fetched."""
        for start, content in self.pieces:
            if start <= position < start + len(content):
                return content[position - start : stop - start]
        return b""

    def _bring(self, start: int, stop: int) -> None:
        """Fetch from a position up to the next piece, or to the end of the requested range."""
        stop = min(stop, *(begin for begin, _ in self.pieces if begin > start), stop if self.end is None else self.end)
        self.fetched += stop - start
        many = len(self.pieces) >= self.format.most_requests and not self.near
        if self.fetched > self.format.most_bytes or many:
            raise InvalidFileError("", f"{self.file} has a header larger than that of any {self.format.name} file")
        piece = self.fetch(start, stop)
        self.pieces.append((start, piece.content))
        if len(piece.content) < stop - start:
            # an empty response means that the file ends somewhere before; only the listing may give the exact size
            nothing = start if self.listed is None else min(start, self.listed)
            self.end = start + len(piece.content) if piece.content else nothing
        elif piece.size is not None:
            self.end = piece.size
