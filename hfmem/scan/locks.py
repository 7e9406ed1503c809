"""A file or folder of rows belongs to one run."""

from __future__ import annotations

__all__ = ["locked"]


def locked(file: int) -> None:
    """Keep other runs from a file or folder, as long as it is open.

    Raises:
        BlockingIOError: another run has it.
    """
    try:
        import fcntl  # not on Windows
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system that has no locks
        return
