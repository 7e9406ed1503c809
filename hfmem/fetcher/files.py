"""Reading of untrusted files: regular files only, up to a maximum size.

Named pipes, devices and sockets are refused, because reading them may never end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["as_text", "open_plain", "read_bytes", "read_text", "too_long"]

_OPENED = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""Paths of files opened by the shell: `/dev/stdin`, `<(…)`."""


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a file.

    Raises:
        OSError: the file is missing, not a regular file, or longer than `most` bytes (`EFBIG`); see `strerror`.
    """
    with os.fdopen(open_plain(path), "rb") as file:
        content = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
    if content is None or len(content) > most:
        raise OSError(errno.EFBIG, too_long(most), str(path))
    return content


def read_text(path: Path, most: int) -> str:
    """The text of a file, without a byte-order mark.

    Raises:
        OSError: as for `read_bytes`, or the file is not text (`EILSEQ`).
    """
    try:
        return as_text(read_bytes(path, most))
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, "it is not text", str(path)) from error


def as_text(content: bytes) -> str:
    """Decode bytes, without a byte-order mark: UTF-8, or UTF-16 if the mark says so (as written by PowerShell).

    Raises:
        UnicodeDecodeError: the bytes are not text.
    """
    return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")


def open_plain(path: Path) -> int:
    """Open a file for reading, and return its descriptor; files opened by the shell may be pipes.

    Raises:
        OSError: the file cannot be opened, or is a pipe, a device or a socket.
    """
    # without O_NONBLOCK, opening a named pipe would block until there is a writer
    opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(opened).st_mode
    if stat.S_ISREG(mode):
        return opened
    if str(path).startswith(_OPENED) and not stat.S_ISDIR(mode):
        os.set_blocking(opened, True)
        return opened
    os.close(opened)
    kind = next((words for fits, words in _KINDS if fits(mode)), "not a file")
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
    """The message for a file that exceeds the maximum size."""
    return f"it is longer than {most >> 20} MiB, the maximum that is read of such a file"
