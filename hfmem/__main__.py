"""`python -m hfmem`, `hfmem` and `hf hfmem`."""

from __future__ import annotations

import gc
import io
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process; a reader that went away (`| head`) is no error."""
    # A run is over before a collection would pay, of what imports leave too: the headers of a large mixture are a
    # million objects that all stay.
    gc.disable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no × or ≥ shows a question mark
    code = _run()
    # Requests that nobody waits for any more may still hang, and would hold the process at its end.
    os._exit(code)


def _run() -> int:
    try:
        from hfmem.cli import app  # here, so that no collection runs meanwhile, and an interruption is answered

        app(prog_name="hfmem")
        sys.stdout.flush()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1 if leaving.code else 0
        return code if _flushed() else 1
    except (BrokenPipeError, KeyboardInterrupt) as error:
        return 1 if isinstance(error, BrokenPipeError) else 130
    return 0


def _flushed() -> bool:
    """Whether everything printed has arrived."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
