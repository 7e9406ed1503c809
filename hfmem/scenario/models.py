"""Which models are asked for: those of the command line, of lists in files and on standard input, of training files."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from huggingface_hub.constants import DEFAULT_REVISION

from hfmem.fetcher.files import as_text, read_text, too_long
from hfmem.fetcher.identity import reference
from hfmem.fetcher.values import ModelRef
from hfmem.options.otherwise import Otherwise
from hfmem.refusals.files import UnreadableFileError
from hfmem.scenario.options import Options

__all__ = ["listed", "with_training_files"]

_LONGEST_LIST: Final = 64 * 2**20
"""Bytes of a list of models: every id of the Hub takes some fifty megabytes."""


def listed(given: Sequence[str], lists: Sequence[str], revision: str) -> list[ModelRef]:
    """The models asked for, in order: those that are given, then those of each list. A model that is there twice is
    asked for twice.

    Args:
        given: names of models.
        lists: files with a name a line; `-` is standard input.
        revision: what is meant of names that have none of their own.

    Raises:
        UnreadableFileError: a file cannot be read.
    """
    names = [*given, *(name for source in lists for name in _lines(source))]
    return [reference(name, revision) for name in names]


def _lines(source: str) -> Iterator[str]:
    """One model a line; blank lines and what follows a # are skipped."""
    try:
        text = _stdin() if source == "-" else read_text(Path(source), _LONGEST_LIST)
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError("--from", source, getattr(error, "strerror", None)) from None
    if len(text) > _LONGEST_LIST:
        raise UnreadableFileError("--from", source, too_long(_LONGEST_LIST))
    return (name for line in re.split(r"[\r\n]+", text) if (name := line.partition("#")[0].strip()))


def _stdin() -> str:
    """The text on standard input; one byte more than is taken shows that there is too much."""
    if sys.stdin is None:
        raise OSError(0, "standard input is closed")
    return as_text(sys.stdin.buffer.read(_LONGEST_LIST + 1))


def with_training_files(
    options: Options, refs: list[ModelRef], files: Sequence[Path], *, revision: str, written: Collection[str]
) -> tuple[Options, list[ModelRef]]:
    """The options with what training files say where the command line says nothing, and the models: the one that they
    name, where none is given; at the state that they name, where it is the one that is given.

    Args:
        options: what is asked beside the files.
        refs: the models that were asked for.
        files: those that people train with.
        revision: what is meant of a name that has none of its own.
        written: the options that are asked although they have their default value.

    Raises:
        InvalidScenarioError: a file cannot be read, or its software would refuse it.
    """
    from hfmem.scenario.files import with_files  # its tables are for training only

    found = with_files(options, files, written)
    if not found.model:
        return found.options, refs
    named = reference(found.model, revision).at(found.revision or DEFAULT_REVISION)
    if all(ref.model_id.lower() == named.model_id.lower() for ref in refs):
        return found.options, [ref.at(named.revision) for ref in refs] or [named]
    remark = Otherwise(f"{found.named} is {found.model}, which is not the model that was asked for.")
    return replace(found.options, remarks=(*found.options.remarks, remark)), refs
