"""`python -m hfmem`, `hfmem` and `hf hfmem`."""

from __future__ import annotations

import gc
import os
import sys

from hfmem.streams import Streams

__all__ = ["main", "run"]


def main() -> None:
    """Run the command line and end the process."""
    # Garbage collection does not pay in so short a run: the headers of a large MoE model are a million objects, all of
    # which stay in use.
    gc.disable()
    # Abandoned requests may still hang, and their threads would keep the process from exiting.
    os._exit(run())


def run() -> int:
    """Run the command line on the process's streams: the exit code. A closed pipe (`| head`) is not an error."""
    streams = Streams()
    code = _run()
    if streams.lost is not None:
        print(f"The output cannot be written: {streams.lost}.", file=sys.stderr)
        code = code or 1
    sys.stderr.flush()
    return code


def _run() -> int:
    try:
        from hfmem.cli import app  # imported here, so that no collection runs meanwhile, and Ctrl-C is handled

        app(prog_name="hfmem")
        sys.stdout.flush()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1 if leaving.code else 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # a bug of this program: print the message without a traceback
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"hfmem cannot go on ({words}). Please report it with the command.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    main()
