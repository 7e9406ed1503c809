"""What the Hub said before, by repository and commit, under the Hugging Face cache home.

    $HF_HOME/hfmem/v1/<org>--<name>/refs/<revision>     the commit a revision pointed to when it was last asked
    $HF_HOME/hfmem/v1/<org>--<name>/<commit>.json       a record (`hfmem.fetcher.records`)

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
from urllib.parse import quote

from huggingface_hub import constants

from hfmem.fetcher.records import from_record, to_record
from hfmem.fetcher.values import Checkpoint, ModelRef

__all__ = ["COMMIT", "load", "save"]

_HUB = "https://huggingface.co"

COMMIT = re.compile(r"[0-9a-f]{40}")


def load(ref: ModelRef, commit: str | None = None) -> Checkpoint | None:
    """The checkpoint of a commit, or of the commit that the revision last pointed to; None where it is not kept."""
    try:
        folder = _folder(ref.model_id)
        found = commit or _known_commit(folder, ref.revision)
        if not COMMIT.fullmatch(found):
            return None
        record = json.loads((folder / f"{found}.json").read_text(encoding="utf-8"))
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
        _write(folder / f"{commit}.json", record)
        point(checkpoint.ref, commit)
    except (OSError, TypeError, ValueError):
        return


def point(ref: ModelRef, commit: str) -> None:
    """Remember which commit a revision points to."""
    folder = _folder(ref.model_id)
    if COMMIT.fullmatch(ref.revision) or _known_commit(folder, ref.revision) == commit:
        return
    with contextlib.suppress(OSError):
        _write(folder / "refs" / quote(ref.revision, safe=""), commit)


def _folder(model_id: str) -> Path:
    """The folder of a model at the address in use, whatever letter case it was asked in."""
    place = "" if constants.ENDPOINT == _HUB else f"@{quote(constants.ENDPOINT.partition('://')[2], safe='')}"
    return Path(constants.HF_HOME) / "hfmem" / "v1" / (quote(model_id.lower().replace("/", "--"), safe="") + place)


def _known_commit(folder: Path, revision: str) -> str:
    if COMMIT.fullmatch(revision):
        return revision
    try:
        return (folder / "refs" / quote(revision, safe="")).read_text(encoding="ascii").strip()
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
