"""A cache of the Hub's answers by repository and commit, in the Hugging Face home.

    $HF_HOME/hfmem/v1/<org>--<name>/refs/<revision>     the commit of a revision when it was last requested
    $HF_HOME/hfmem/v1/<org>--<name>/<commit>.json       a record (`hfmem.fetcher.records`); for a requested GGUF
                                                        quantisation, <commit>@<quantisation>.json

Answers of a mirror (`HF_ENDPOINT`) are in folders with the suffix `@<its address>`.

Files are written to a temporary name and renamed, so that other processes never see a partial file. A cache that cannot
be read or written is treated as empty, and is never an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from huggingface_hub import constants

from hfmem.fetcher.files import read_bytes, read_text
from hfmem.fetcher.quantisations import wanted
from hfmem.fetcher.records import from_record, to_record
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.units import MIB

__all__ = ["COMMIT", "load", "model_ids", "point", "save", "states"]

_HUB = "https://huggingface.co"

COMMIT = re.compile(r"[0-9a-f]{40}")

_LONGEST_RECORD = 256 * MIB  # headers are abbreviated in records: those of the largest models take a few megabytes
_LONGEST_REF = 1024


def load(ref: ModelRef, commit: str | None = None) -> Checkpoint | None:
    """The cached checkpoint of a commit, or of the last known commit of the revision; None if it is not cached."""
    try:
        folder = _folder(ref.model_id)
        found = commit or _known_commit(folder, ref.revision)
        if not COMMIT.fullmatch(found):
            return None
        record = json.loads(read_bytes(folder / _file(ref, found), _LONGEST_RECORD))
        kept = from_record(record, ref)
    except (OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, MemoryError):
        return None  # a corrupt file of any kind: the answer is requested and written again
    return kept if kept.commit == found else None


def save(checkpoint: Checkpoint) -> None:
    """Cache a checkpoint from the Hub, and the commit of its revision."""
    commit = checkpoint.commit
    if commit is None or not COMMIT.fullmatch(commit):
        return
    try:
        record = json.dumps(to_record(checkpoint), separators=(",", ":"))
        folder = _folder(checkpoint.ref.model_id)
        _write(folder / _file(checkpoint.ref, commit), record)
        point(checkpoint.ref, commit)
    except (OSError, TypeError, ValueError):
        return


def _file(ref: ModelRef, commit: str) -> str:
    """The file name of a record; each requested quantisation, and each file that was chosen, has its own."""
    quant = wanted(ref) or (ref.file if ref.picked else "")
    return f"{commit}@{quote(quant.lower(), safe='')}.json" if quant else f"{commit}.json"


def point(ref: ModelRef, commit: str) -> None:
    """Store the commit of a revision."""
    folder = _folder(ref.model_id)
    if COMMIT.fullmatch(ref.revision) or _known_commit(folder, ref.revision) == commit:
        return
    with contextlib.suppress(OSError):
        _write(folder / "refs" / quote(ref.revision, safe=""), commit)


def states(model_id: str) -> tuple[tuple[str, str], ...]:
    """The cached (revision, quantisation) pairs of a model; commits that no branch or tag points to are listed by
    hash."""
    folder = _folder(model_id)
    names: dict[str, list[str]] = {}
    with contextlib.suppress(OSError, ValueError):
        for path in sorted((folder / "refs").iterdir()):
            names.setdefault(read_text(path, _LONGEST_REF).strip(), []).append(unquote(path.name))
    try:
        records = sorted(path.name.removesuffix(".json") for path in folder.glob("*.json"))
    except OSError:
        return ()
    parts = (record.partition("@") for record in records)
    return tuple((name, unquote(quant)) for commit, _, quant in parts for name in names.get(commit, [commit]))


def model_ids() -> tuple[str, ...]:
    """The ids of cached models, in lower case."""
    try:
        names = sorted(path.name for path in _home().iterdir())
    except OSError:
        return ()
    return tuple(unquote(name.partition("@")[0]).replace("--", "/", 1) for name in names)


def _home() -> Path:
    return Path(constants.HF_HOME) / "hfmem" / "v1"


def _folder(model_id: str) -> Path:
    """The folder of a model for the current endpoint; ids are case-insensitive."""
    place = "" if constants.ENDPOINT == _HUB else f"@{quote(constants.ENDPOINT.partition('://')[2], safe='')}"
    return _home() / (quote(model_id.lower().replace("/", "--"), safe="") + place)


def _known_commit(folder: Path, revision: str) -> str:
    if COMMIT.fullmatch(revision):
        return revision
    try:
        return read_text(folder / "refs" / quote(revision, safe=""), _LONGEST_REF).strip()
    except (OSError, ValueError):
        return ""


def _write(path: Path, text: str) -> None:
    import tempfile  # for answers that are new only

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
