"""Records of one row a type, made by a tool that is run by hand: which are asked for, and who made them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

__all__ = ["head", "rows_asked"]

_Made = TypeVar("_Made")


def rows_asked(about: str | None, row: Callable[[str], _Made], names: Sequence[str]) -> Iterator[_Made]:
    """The rows of the types that the command line names, of all where it names none, each as it is made: in processes
    of their own, `--jobs` of them."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(row, arguments.types or names)


def head(tool: str) -> dict[str, str]:
    """The first line of a record: the tool, and the releases that its rows are of."""
    import torch
    import transformers

    releases = {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]}
    return {"tool": f"python -m {tool}", **releases}
