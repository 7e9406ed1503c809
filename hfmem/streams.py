"""Standard output and standard error of the command line, also if they are closed, a disk is full or a pipe breaks; and
a progress bar.

Code that prints does not have to handle any of this: output that cannot be written is dropped. Lost output is reported
at the end, unless the stream was closed or its reader has exited.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["Progress", "Streams", "colours", "columns", "only_ascii"]

_USUAL_WIDTH: Final = 80


class Streams:
    """Replacements for the process's streams, to which printing never raises."""

    def __init__(self) -> None:
        _occupy()
        self._out = _Sink(sys.stdout)
        self._err = _Sink(sys.stderr)
        sys.stdout = self._out.text(sys.stdout)
        sys.stderr = self._err.text(sys.stderr, line_buffering=True)

    @property
    def lost(self) -> str | None:
        """Why a part of the output could not be written, called at the end; None if nothing was lost."""
        sys.stdout.flush()
        return self._out.lost


def _occupy() -> None:
    """Open the null device for closed standard streams. Otherwise the next file or socket would get that file
    descriptor, and libraries that write to the stream would write there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class _Sink(io.RawIOBase):
    """The binary layer of a stream; it discards everything if the stream is closed.

    Attributes:
        lost: why bytes could not be written, in words; None if all were, or if the pipe's reader has exited.
    """

    def __init__(self, stream: TextIO | None) -> None:
        buffer = getattr(stream, "buffer", None)
        self._raw: Any = getattr(buffer, "raw", buffer)
        self._gone = self._raw is None
        self.lost: str | None = None

    def text(self, stream: TextIO | None, *, line_buffering: bool = False) -> TextIO:
        """The text stream to print to; characters missing in its encoding are printed as question marks."""
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
        """Write bytes; after a failure, all further ones are dropped, as output with a gap is useless."""
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
        """Wait until a full non-blocking pipe accepts bytes again, then continue."""
        import select

        select.select([], [self.fileno()], [])
        return self.write(content)


def columns(stream: TextIO) -> int | None:
    """Columns of the terminal; None for files and pipes, which get unfolded lines."""
    if not stream.isatty():
        return None
    if os.environ.get("COLUMNS", "").isdecimal() and (asked := int(os.environ["COLUMNS"])):
        return asked
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_WIDTH
    except OSError:
        return _USUAL_WIDTH


def colours(stream: TextIO) -> Literal["", "256", "full"]:
    """Which colours a stream shows: none (a file, a pipe, `NO_COLOR`, a terminal without), a table of 256, or all."""
    kind = os.environ.get("TERM", "")
    windows = os.name == "nt" and bool(os.environ.get("WT_SESSION") or kind)
    if os.environ.get("NO_COLOR") or not stream.isatty() or not (windows or (kind and kind not in _WITHOUT)):
        return ""
    return "full" if windows or os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") else "256"


_WITHOUT: Final = ("dumb", "linux", "unknown", "vt100", "vt102", "vt220")
"""Terminals without a table of 256 colours."""


def only_ascii(stream: TextIO) -> bool:
    """Whether a stream's encoding lacks the non-ASCII characters of reports."""
    try:
        "×≥é".encode(stream.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return True
    return False


class Progress:
    """A progress bar on standard error while models, or forms of one, are fetched: shown after a second, and removed at
    the end.

    It runs in its own thread, as the main thread may wait for a response that never comes.
    """

    def __init__(self, models: Sequence[str], unit: str = "model") -> None:
        self._models, self._unit = models, unit
        self._done, self._begun = 0, time.time()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._show, name="hfmem-progress", daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Count another model."""
        self._done += 1

    def close(self) -> None:
        """Remove the bar."""
        self._over.set()
        self._thread.join(1.0)

    def _show(self) -> None:
        if self._over.wait(1.0):
            return
        from tqdm import tqdm

        name = "".join(c if c.isprintable() else "?" for c in self._models[0])
        shown = {"total": len(self._models), "unit": self._unit, "desc": f"{self._unit}s"}
        if len(self._models) == 1:
            shown = {"desc": name, "bar_format": "reading {desc}, {elapsed}"}
        with tqdm(**shown, leave=False, delay=0.1, dynamic_ncols=True, file=sys.stderr) as bar:
            bar.start_t = self._begun
            while True:
                bar.n = self._done
                bar.refresh()
                if self._over.wait(0.5):
                    return
