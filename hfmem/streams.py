"""Standard output and standard error of the command line: closed ones, full disks, readers that go away; and what a
person sees there who waits.

None of them is for the code that prints to know: what cannot be written is dropped. What was lost of the answer is told
at the end; where nobody listens, or nobody reads any more, there is nothing to tell.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["Progress", "Streams", "columns", "only_ascii"]

_USUAL_WIDTH: Final = 80


class Streams:
    """The process's streams, made so that printing never raises."""

    def __init__(self) -> None:
        _occupy()
        self._out = _Sink(sys.stdout)
        self._err = _Sink(sys.stderr)
        sys.stdout = self._out.text(sys.stdout)
        sys.stderr = self._err.text(sys.stderr, line_buffering=True)

    @property
    def lost(self) -> str | None:
        """Why a part of the answer could not be written, once all of it was printed; None where nothing was lost."""
        sys.stdout.flush()
        return self._out.lost


def _occupy() -> None:
    """Open the null device where a standard stream is closed: the next file or socket would get its number, and what
    other programs write to that stream would land there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class _Sink(io.RawIOBase):
    """The bytes of a stream; nowhere where it is closed.

    Attributes:
        lost: why bytes could not be written, in words; None while all were, or where the reader went away.
    """

    def __init__(self, stream: TextIO | None) -> None:
        buffer = getattr(stream, "buffer", None)
        self._raw: Any = getattr(buffer, "raw", buffer)
        self._gone = self._raw is None
        self.lost: str | None = None

    def text(self, stream: TextIO | None, *, line_buffering: bool = False) -> TextIO:
        """The stream to print to; a character that the terminal does not have is a question mark."""
        if stream is not None:
            stream.flush()
        return io.TextIOWrapper(
            io.BufferedWriter(self),
            encoding=getattr(stream, "encoding", None) or "utf-8",
            errors="replace",
            line_buffering=line_buffering or self.isatty(),
        )

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._raw is None:
            raise io.UnsupportedOperation("fileno")
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return self._raw is not None and bool(self._raw.isatty())

    def write(self, content: Any) -> int:
        """Pass bytes on; after a failure they are dropped, as the ones behind a gap are of no use."""
        size = memoryview(content).nbytes
        if self._gone:
            return size
        try:
            written = self._raw.write(content)
        except BrokenPipeError:
            self._gone = True
        except OSError as error:
            self._gone, self.lost = True, error.strerror or type(error).__name__
        else:
            return int(written) if written is not None else self._later(content)
        return size

    def _later(self, content: Any) -> int:
        """Wait for a reader that takes nothing more at the moment (a pipe that does not block), then go on."""
        import select

        select.select([], [self.fileno()], [])
        return self.write(content)


def columns(stream: TextIO) -> int | None:
    """Columns of the terminal; None where the stream is none, so that files and pipes get whole lines."""
    if not stream.isatty():
        return None
    if os.environ.get("COLUMNS", "").isdecimal() and (asked := int(os.environ["COLUMNS"])):
        return asked
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_WIDTH
    except OSError:
        return _USUAL_WIDTH


def only_ascii(stream: TextIO) -> bool:
    """Whether a stream cannot take the characters that reports have."""
    try:
        "×≥é".encode(stream.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return True
    return False


class Progress:
    """A bar on standard error while models are read, for a person who has waited for a second; gone when all is done.

    It has a thread of its own: what is waited for may be an answer that never comes.
    """

    def __init__(self, models: Sequence[str]) -> None:
        self._models = models
        self._done, self._begun = 0, time.time()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._show, name="hfmem-progress", daemon=True)
        self._thread.start()

    def step(self) -> None:
        """One model more is there."""
        self._done += 1

    def close(self) -> None:
        """Take the bar away."""
        self._over.set()
        self._thread.join(1.0)

    def _show(self) -> None:
        if self._over.wait(1.0):
            return
        from tqdm import tqdm

        name = "".join(c if c.isprintable() else "?" for c in self._models[0])
        shown = {"total": len(self._models), "unit": "model", "desc": "models"}
        if len(self._models) == 1:
            shown = {"desc": name, "bar_format": "reading {desc}, {elapsed}"}
        with tqdm(**shown, leave=False, delay=0.1, dynamic_ncols=True, file=sys.stderr) as bar:
            bar.start_t = self._begun
            while True:
                bar.n = self._done
                bar.refresh()
                if self._over.wait(0.5):
                    return
