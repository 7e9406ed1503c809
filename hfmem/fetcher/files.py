"""Reading files that others wrote: plain files only, and never more than a size that such files have.

A named pipe, a device or a socket is refused: to read one may never end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["as_text", "open_plain", "read_bytes", "read_text", "too_long"]

_OPENED = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""What the shell has opened for us: `/dev/stdin`, `<(…)`."""


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a file.

    Raises:
        OSError: no such file, no plain file, or one that is longer than `most` bytes (`EFBIG`); `strerror` says which.
    """
    with os.fdopen(open_plain(path), "rb") as file:
        content = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
    if content is None or len(content) > most:
        raise OSError(errno.EFBIG, too_long(most), str(path))
    return content


def read_text(path: Path, most: int) -> str:
    """The text of a file, a byte-order mark left out.

    Raises:
        OSError: as for `read_bytes`, or no text (`EILSEQ`).
    """
    try:
        return as_text(read_bytes(path, most))
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, "it is not text", str(path)) from error


def as_text(content: bytes) -> str:
    """Bytes as text, without a byte-order mark: UTF-8, or UTF-16 where the mark says so, as some shells write files.

    Raises:
        UnicodeDecodeError: they are no text.
    """
    return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")


def open_plain(path: Path) -> int:
    """The number of a file that was opened for reading; one that the shell opened may be a pipe.

    Raises:
        OSError: it cannot be opened, or is a pipe, a device or a socket.
    """
    # a named pipe without a writer would hold the process as it is opened
    opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(opened).st_mode
    if stat.S_ISREG(mode):
        return opened
    if str(path).startswith(_OPENED) and not stat.S_ISDIR(mode):
        os.set_blocking(opened, True)
        return opened
    os.close(opened)
    kind = next((words for fits, words in _KINDS if fits(mode)), "no file")
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(number, f"it is {kind}, where a file is expected", str(path))


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def too_long(most: int) -> str:
    """The words for a file that is longer than it may be."""
    return f"it is longer than the {most >> 20} MiB that are read of such a file"
