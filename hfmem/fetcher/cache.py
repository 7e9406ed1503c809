"""What the Hub said before, by repository and commit, under the Hugging Face cache home.

    $HF_HOME/hfmem/v1/<org>--<name>/refs/<revision>     the commit a revision pointed to when it was last asked
    $HF_HOME/hfmem/v1/<org>--<name>/<commit>.json       a record (`hfmem.fetcher.records`); of a quantisation that was
                                                        asked for, <commit>@<quantisation>.json

A mirror's answers (`HF_ENDPOINT`) have `@<its address>` behind the name.

Files are written to a temporary name and renamed, so a reader in another process sees a whole file or none. A cache
that cannot be written or read is no cache, and never an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
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

_LONGEST_RECORD = 256 * MIB  # a record has its headers in short: those of the largest models take a few megabytes
_LONGEST_REF = 1024


def load(ref: ModelRef, commit: str | None = None) -> Checkpoint | None:
    """The checkpoint of a commit, or of the commit that the revision last pointed to; None where it is not kept."""
    try:
        folder = _folder(ref.model_id)
        found = commit or _known_commit(folder, ref.revision)
        if not COMMIT.fullmatch(found):
            return None
        record = json.loads(read_bytes(folder / _file(ref, found), _LONGEST_RECORD))
        kept = from_record(record, ref)
    except (OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, MemoryError):
        return None  # whatever is wrong with the file: it is asked again, and written anew
    return kept if kept.commit == found else None


def save(checkpoint: Checkpoint) -> None:
    """Keep a checkpoint of the Hub, and that its revision points to its commit."""
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
    """The file of a record: each quantisation that was asked for has one of its own."""
    quant = wanted(ref)
    return f"{commit}@{quote(quant.lower(), safe='')}.json" if quant else f"{commit}.json"


def point(ref: ModelRef, commit: str) -> None:
    """Remember which commit a revision points to."""
    folder = _folder(ref.model_id)
    if COMMIT.fullmatch(ref.revision) or _known_commit(folder, ref.revision) == commit:
        return
    with contextlib.suppress(OSError):
        _write(folder / "refs" / quote(ref.revision, safe=""), commit)


def states(model_id: str) -> tuple[tuple[str, str], ...]:
    """The revisions that answers about a model are kept of, with the quantisation that each is about; commits where no
    branch or tag points to them."""
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
    """The models that answers are kept of, in lower case."""
    try:
        names = sorted(path.name for path in _home().iterdir())
    except OSError:
        return ()
    return tuple(unquote(name.partition("@")[0]).replace("--", "/", 1) for name in names)


def _home() -> Path:
    return Path(constants.HF_HOME) / "hfmem" / "v1"


def _folder(model_id: str) -> Path:
    """The folder of a model at the address in use, whatever letter case it was asked in."""
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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
