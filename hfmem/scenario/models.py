"""The requested models: from the command line, lists in files or on standard input, and training files."""

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
"""Maximum bytes of a list of models; all ids on the Hub together take about 50 MB."""


def listed(given: Sequence[str], lists: Sequence[str], revision: str) -> list[ModelRef]:
    """The requested models in order: those given directly, then those of each list, including duplicates.

    Args:
        given: names of models.
        lists: files with one name per line; `-` is standard input.
        revision: the revision for names without one.

    Raises:
        UnreadableFileError: a file cannot be read.
    """
    names = [*given, *(name for source in lists for name in _lines(source))]
    return [reference(name, revision) for name in names]


def _lines(source: str) -> Iterator[str]:
    """The lines of a list, without blank lines and comments after #."""
    try:
        text = _stdin() if source == "-" else read_text(Path(source), _LONGEST_LIST)
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError("--from", source, getattr(error, "strerror", None)) from None
    if len(text) > _LONGEST_LIST:
        raise UnreadableFileError("--from", source, too_long(_LONGEST_LIST))
    return (name for line in re.split(r"[\r\n]+", text) if (name := line.partition("#")[0].strip()))


def _stdin() -> str:
    """The text on standard input, up to one byte more than the maximum, which shows that it is too long."""
    if sys.stdin is None:
        raise OSError(0, "standard input is closed")
    return as_text(sys.stdin.buffer.read(_LONGEST_LIST + 1))


def with_training_files(
    options: Options, refs: list[ModelRef], files: Sequence[Path], *, revision: str, written: Collection[str]
) -> tuple[Options, list[ModelRef]]:
    """The options supplemented by training files, and the models: without a given model, the one that the files name.
    If the given model is the one that they name, it gets their revision.

    Args:
        options: the user's other options.
        refs: the given models.
        files: training files.
        revision: the revision for names without one.
        written: the options that the user has set to their default value.

    Raises:
        InvalidScenarioError: a file cannot be read, or its software would reject it.
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
