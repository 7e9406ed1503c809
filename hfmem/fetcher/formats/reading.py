"""Reads a file of any format from wherever its bytes are: the format says which it wants, a function brings them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from hfmem.errors import InvalidFileError
from hfmem.fetcher.formats.protocol import FileContents, Format, Span
from hfmem.fetcher.formats.table import format_of

__all__ = ["Fetch", "Piece", "empty_note", "read_contents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes of a file, as they were brought.

    Attributes:
        content: from the first byte that was asked for; fewer than asked where the file ends.
        size: bytes of the whole file; None where that is not known.
    """

    content: bytes
    size: int | None = None


Fetch = Callable[[int, int], Piece]
"""Brings the bytes of a file from the first number to before the second."""


def read_contents(format_: Format, file: str, fetch: Fetch, size: int | None = None) -> FileContents:
    """What a file of a format holds.

    Args:
        format_: one that can be read.
        file: the name of the file, for errors.
        fetch: brings its bytes. The head comes first, in one piece, then the tail where the format has one.
        size: bytes of the file as a listing says; believed only where no answer of `fetch` tells it.

    Raises:
        InvalidFileError: bytes that cannot be of the format, or a file that asks for more than any file needs.
    """
    if format_.read is None:
        return FileContents(tensors=())
    window = _Window(format=format_, file=file, fetch=fetch, listed=size)
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


def empty_note(contents: Mapping[str, FileContents]) -> tuple[str, ...]:
    """A sentence where the weight files that were read hold nothing."""
    files = [name for name in contents if (format_ := format_of(name)) is not None and format_.read]
    if not files or any(found.tensors for found in contents.values()):
        return ()
    named = f"{files[0]} holds" if len(files) == 1 else f"{files[0]} and {len(files) - 1:,} more files contain"
    return (f"{named} no tensor: they are not counted.",)


def _measured(contents: FileContents, window: _Window) -> FileContents:
    """The contents, with a fault where the file is not as long as they say."""
    size = window.listed if window.end is None else window.end
    if size is None or contents.length in (None, size):
        return contents
    fault = f"{window.file} has {size:,} bytes where its header places {contents.length:,}"
    return replace(contents, faults=(*contents.faults, fault))


@dataclass(slots=True, kw_only=True)
class _Window:
    """The parts of a file that are here, and the way to more of them.

    Attributes:
        end: bytes of the file, once an answer has told.
        pieces: where each part that is here begins, with its bytes.
        fetched: bytes brought so far.
    """

    format: Format
    file: str
    fetch: Fetch
    listed: int | None
    end: int | None = None
    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    fetched: int = 0

    def read(self, span: Span) -> bytes:
        """The bytes of a span; what is not here is fetched, what lies behind the end of the file left out."""
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
            raise InvalidFileError("", f"nothing tells how long {self.file} is, which {self.format.name} needs")
        start, stop, _ = slice(span.start, span.stop).indices(size)
        return start, stop

    def _here(self, position: int, stop: int) -> bytes:
        """The bytes from a position on, as far as one piece has them; none where it has to be brought."""
        for start, content in self.pieces:
            if start <= position < start + len(content):
                return content[position - start : stop - start]
        return b""

    def _bring(self, start: int, stop: int) -> None:
        """Fetch from a position up to the next piece, or to the end of what is asked."""
        stop = min(stop, *(begin for begin, _ in self.pieces if begin > start), stop if self.end is None else self.end)
        self.fetched += stop - start
        if self.fetched > self.format.most_bytes or len(self.pieces) >= self.format.most_requests:
            raise InvalidFileError("", f"{self.file} asks for more bytes than the header of any {self.format.name} has")
        piece = self.fetch(start, stop)
        self.pieces.append((start, piece.content))
        if len(piece.content) < stop - start:
            # where nothing came, the file ends somewhere before, and only the listing may know where
            nothing = start if self.listed is None else min(start, self.listed)
            self.end = start + len(piece.content) if piece.content else nothing
        elif piece.size is not None:
            self.end = piece.size
