"""`python -m hfmem`, `hfmem` and `hf hfmem`."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys

from hfmem.cli import app

__all__ = ["main"]


def main() -> None:
    """Run the command line; a reader that went away (`| head`) is no error."""
    # A run is over before a collection would pay: the headers of a large mixture are a million objects that all stay.
    gc.disable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no × or ≥ shows a question mark
    try:
        app(prog_name="hfmem")
    except BrokenPipeError:
        # Python would write to the closed pipe again at exit
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
