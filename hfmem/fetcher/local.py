"""Local models: a folder with config.json, a weight file, a snapshot in the Hugging Face cache."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from hfmem.errors import InvalidConfigError, InvalidFileError, ModelNotFoundError
from hfmem.fetcher.cards import read_card_base
from hfmem.fetcher.configs import (
    ADAPTER,
    CONFIG,
    LONGEST_CONFIG,
    LONGEST_INDEX,
    PROCESSOR_FILES,
    parse_object,
    processor_settings,
    quantisation_file,
    shards_of,
)
from hfmem.fetcher.files import open_plain, read_bytes, read_text
from hfmem.fetcher.foreign import is_foreign
from hfmem.fetcher.formats import gguf
from hfmem.fetcher.formats.protocol import FileContents
from hfmem.fetcher.formats.reading import Piece, contents_notes, read_contents, tensors_of
from hfmem.fetcher.formats.table import format_of, formats, readable
from hfmem.fetcher.pipelines import PIPELINE, config_files
from hfmem.fetcher.quantisations import Choice, parts_of
from hfmem.fetcher.selection import INDEX, Selection, first_readable, select_for
from hfmem.fetcher.tensors import each_once
from hfmem.fetcher.values import Checkpoint, FileInfo, ModelRef
from hfmem.units import format_bytes

__all__ = ["is_local", "is_there", "read", "read_choice", "snapshot", "snapshots", "why_not"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST_REF = 1024  # bytes of a file with a commit hash


def is_local(model: str) -> bool:
    """Whether the word is a readable local model: a file of a known format, or a folder with config.json,
    model_index.json, adapter_config.json or a weight file. It takes precedence over a Hub id of the same name, as in
    `transformers`."""
    if not model:  # as a path, "" would be the current folder
        return False
    try:
        path = Path(model).expanduser()
        if path.is_dir():
            names = [item.name for item in path.iterdir() if item.is_file()]
            if any(name in (CONFIG, PIPELINE, ADAPTER) or _is_readable(name) or is_foreign(name) for name in names):
                return True
            return any(path.glob(f"checkpoint-*/{ADAPTER}")) or _has_files(path)
        return path.is_file() and format_of(path.name) is not None
    except (OSError, RuntimeError, ValueError):  # RuntimeError: the home of an unknown user
        return False


def _is_readable(filename: str) -> bool:
    format_ = format_of(filename)
    return format_ is not None and format_.read is not None


_LOOKED_AT = 2000  # items of a folder's folders: any folder of a disk may be named by mistake


def _has_files(path: Path) -> bool:
    """Whether a folder has weight files in folders of its own."""
    items = islice(chain(path.glob("*/*"), path.glob("*/*/*")), _LOOKED_AT)
    return any(_is_readable(item.name) and item.is_file() for item in items)


def is_there(model: str) -> bool:
    """Whether the word is an existing folder or file, of any content."""
    try:
        return bool(model) and Path(model).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def why_not(model: str) -> str:
    """Why a path is not a model."""
    try:
        if Path(model).expanduser().is_dir():
            names = (CONFIG, *(format_.name for format_ in readable()))
            return f"the folder has neither {' nor '.join(names)}"
        if Path(model).expanduser().is_file():
            suffixes = (suffix for format_ in formats() for suffix in format_.suffixes)
            return f"the file is neither {' nor '.join(suffixes)}"
    except (OSError, RuntimeError, ValueError):
        pass
    return "there is no such folder or file"


def read(ref: ModelRef) -> Checkpoint:
    """The checkpoint of a folder or of one file.

    Raises:
        ModelNotFoundError: the path cannot be read.
        InvalidFileError: a file is not of the format that its name indicates.
    """
    path = Path(ref.model_id).expanduser()
    try:
        return _read_file(ref, path) if path.is_file() else _read_folder(ref, path)
    except InvalidFileError as error:
        error.place = str(path.parent if path.is_file() else path)
        raise
    except OSError as error:
        raise ModelNotFoundError(ref.model_id, f"{path} cannot be read: {error.strerror or error}") from error


def snapshots(model_id: str) -> tuple[str, ...]:
    """The revisions of a model with a snapshot in the Hugging Face cache; commits that no branch or tag points to are
    listed by hash."""
    repository = _repository(model_id)
    names: dict[str, list[str]] = {}
    try:
        for path in sorted(path for path in (repository / "refs").rglob("*") if path.is_file()):
            name = path.relative_to(repository / "refs").as_posix()
            names.setdefault(read_text(path, _LONGEST_REF).strip(), []).append(name)
        commits = sorted(path.name for path in (repository / "snapshots").iterdir())
    except (OSError, ValueError):
        return ()
    return tuple(name for commit in commits for name in names.get(commit, [commit]))


def _repository(model_id: str) -> Path:
    """The folder of a model in the Hugging Face cache."""
    return Path(constants.HF_HUB_CACHE) / f"models--{model_id.replace('/', '--')}"


def snapshot(ref: ModelRef) -> Checkpoint | None:
    """The model's snapshot in the Hugging Face cache, if its config and weights were downloaded."""
    repository = _repository(ref.model_id)
    try:
        commit = ref.revision
        if not _COMMIT.fullmatch(commit):
            commit = read_text(repository / "refs" / ref.revision, _LONGEST_REF).strip()
        folder = repository / "snapshots" / commit
        if not _COMMIT.fullmatch(commit) or not is_local(str(folder)):
            return None
        found = _read_folder(ref, folder)
    except (OSError, ValueError, InvalidConfigError):
        return None
    provenance = "the Hugging Face cache on this machine"
    return replace(found, commit=commit, source="cache", provenance=provenance) if found.tensors else None


def _read_file(ref: ModelRef, path: Path) -> Checkpoint:
    config = path.parent / CONFIG
    files, missing = _shards(path)
    beside = _read_config(config) if config.is_file() and not gguf.FORMAT.matches(path.name) else None
    notes = [f"The config.json next to {path.name} is used as its configuration."] if beside is not None else []
    contents = {file.name: _contents(path.parent / file.name, file.name) for file in files}
    return Checkpoint(
        ref=ref,
        commit=None,
        source="local",
        provenance=str(path),
        config=beside,
        adapter=_read_beside(path.parent / ADAPTER),
        processing=_processing(path.parent) if beside is not None else {},
        tensors=tensors_of(contents),
        files=files,
        weight_files=files,
        metadata={name: found.metadata for name, found in contents.items() if found.metadata},
        missing=missing,
        faults=tuple(fault for found in contents.values() for fault in found.faults),
        notes=(*notes, *_missing_note(missing, len(files)), *contents_notes(contents)),
    )


def _shards(path: Path) -> tuple[tuple[FileInfo, ...], int]:
    """A file with its other shards in the folder, as llama.cpp loads them, and the number of missing shards."""
    name, _, count = parts_of(path.name)
    brothers = sorted(path.parent.glob("*.gguf")) if count > 1 and gguf.FORMAT.matches(path.name) else [path]
    found = [one for one in brothers if (parts := parts_of(one.name))[0] == name and parts[2] == count]
    infos = tuple(FileInfo(name=one.name, size=one.stat().st_size) for one in found or [path])
    return infos, max(0, count - len(infos)) if found else 0


def _read_folder(ref: ModelRef, path: Path) -> Checkpoint:
    files = tuple(_listing(path))
    names = {file.name for file in files}
    pipeline = _read_beside(path / PIPELINE) if PIPELINE in names else None
    selection, contents = _chosen(path, select_for(files, ref, pipeline))
    indexed = _indexed(path, selection, names)
    weights, missing, notes = _weights(selection, files, indexed)
    notes += _no_files(path)
    contents = contents or _of_files(path, weights)
    tensors = tensors_of(contents)
    doubts: tuple[str, ...] = ()
    if selection.layout == "sharded":  # other files may use the same names
        tensors, doubts = each_once(tensors, [name for name, file in indexed.items() if file in contents])
    config = _config_of(path, names, notes, needed=not tensors)
    side = quantisation_file(config, names)
    return Checkpoint(
        ref=ref,
        commit=None,
        source="local",
        provenance=str(path),
        config=config,
        quantisation=_read_config(path / side) if side is not None else None,
        adapter=_read_beside(path / selection.folder / ADAPTER),
        pipeline=pipeline if selection.layout == "pipeline" else None,
        configs=_configs(path, files, pipeline or {}),
        card_base=read_card_base(path) if selection.layout == "adapter" else "",
        processing=_processing(path),
        tensors=tensors,
        files=files,
        weight_files=weights,
        metadata={name: found.metadata for name, found in contents.items() if found.metadata},
        faults=tuple(fault for found in contents.values() for fault in found.faults),
        doubts=doubts,
        missing=missing,
        unread=selection.unread,
        notes=(*notes, *contents_notes(contents)),
    )


def _config_of(path: Path, names: Collection[str], notes: list[str], *, needed: bool) -> dict[str, Any] | None:
    """config.json of a folder; with a note if it is invalid, but not needed."""
    if CONFIG not in names:
        return None
    try:
        return _read_config(path / CONFIG)
    except InvalidConfigError as error:
        if needed:
            raise
        notes.append(f"{error.reason}; the weights are counted without it.")
        return None


def _chosen(path: Path, selection: Selection) -> tuple[Selection, dict[str, FileContents]]:
    """The first of several models that can be read, with its contents; other selections stay as they are, unread."""
    if not selection.choices or not selection.weights:
        return selection, {}
    return first_readable(selection, lambda files: _of_files(path, files))


def _of_files(path: Path, files: Iterable[FileInfo]) -> dict[str, FileContents]:
    """The contents of files in a folder."""
    return {file.name: _contents(path / file.name, file.name) for file in files}


def read_choice(checkpoint: Checkpoint, choice: Choice) -> Checkpoint | None:
    """Another model in the same local folder; None if the checkpoint is not from a local folder.

    Raises:
        InvalidFileError: a file is invalid or cannot be read.
    """
    folder = Path(checkpoint.ref.model_id).expanduser()
    if checkpoint.source != "local" or not folder.is_dir():
        return None
    try:
        contents = _of_files(folder, choice.files)
    except OSError as error:
        raise InvalidFileError(checkpoint.ref.model_id, f"{choice.file}: {error.strerror or error}") from error
    return replace(
        checkpoint,
        tensors=tensors_of(contents),
        weight_files=choice.files,
        metadata={name: found.metadata for name, found in contents.items() if found.metadata},
        faults=tuple(fault for found in contents.values() for fault in found.faults),
        missing=choice.missing,
    )


def _listing(path: Path) -> list[FileInfo]:
    """Files in the folder and its subfolders (used by diffusers, sentence-transformers and collections of files)."""
    patterns = ("*", "*/*", "*/*/*")
    found = [item for pattern in patterns for item in path.glob(pattern) if item.is_file()]
    return [FileInfo(name=item.relative_to(path).as_posix(), size=item.stat().st_size) for item in sorted(found)]


def _no_files(path: Path) -> list[str]:
    """A sentence on names of model files that are not regular files."""
    named = sorted(item for item in path.iterdir() if item.name in (CONFIG, INDEX, PIPELINE) or format_of(item.name))
    odd = [item.name for item in named if not item.is_file()]
    verb = "is not a readable file, and is" if len(odd) == 1 else "are not readable files, and are"
    return [f"{', '.join(odd[:3])}{', …' if len(odd) > 3 else ''} {verb} ignored."] if odd else []


def _indexed(path: Path, selection: Selection, names: Collection[str]) -> dict[str, str]:
    """The shard of each tensor, from the index; {} without an index, or with an invalid one if the shards are
    identified by their names."""
    if selection.layout != "sharded" or INDEX not in names:
        return {}
    try:
        return shards_of(_parsed(path / INDEX, LONGEST_INDEX))
    except InvalidConfigError:
        if not selection.weights:
            raise
        return {}


def _weights(
    selection: Selection, files: tuple[FileInfo, ...], indexed: Mapping[str, str]
) -> tuple[tuple[FileInfo, ...], int, list[str]]:
    """The selected files that exist, the number of missing ones, and a note on those."""
    here, missing = selection.weights, selection.missing
    if indexed:
        shards = set(indexed.values())
        here = tuple(file for file in files if file.name in shards)
        missing = len(shards) - len(here)
    return here, missing, _missing_note(missing, len(here))


def _missing_note(missing: int, here: int) -> list[str]:
    words = f"{missing} of {missing + here} shards are not in the folder; their weights are not counted."
    return [words] if missing else []


def _processing(folder: Path) -> dict[str, dict[str, Any]]:
    """The settings of the processor, by file; those that are missing or invalid are absent."""
    found = {}
    for name in PROCESSOR_FILES:
        with suppress(InvalidConfigError, OSError):
            if (folder / name).is_file():
                found[name] = processor_settings(_read_config(folder / name))
    return found


def _read_beside(path: Path) -> dict[str, Any] | None:
    """Contents of another JSON file than config.json; None if it is missing or invalid."""
    try:
        return _read_config(path) if path.is_file() else None
    except InvalidConfigError:
        return None


def _configs(path: Path, files: Iterable[FileInfo], index: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The config.json of each component of a pipeline."""
    found = {name: _read_beside(path / file) for name, file in config_files(files, index).items()}
    return {name: config for name, config in found.items() if config is not None}


def _read_config(path: Path) -> dict[str, Any]:
    return _parsed(path, LONGEST_CONFIG)


def _parsed(path: Path, most: int) -> dict[str, Any]:
    """The JSON object in a file of at most `most` bytes.

    Raises:
        InvalidConfigError: it is longer, or not a JSON object.
    """
    try:
        return parse_object(read_bytes(path, most), path.name)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        size = format_bytes(path.stat().st_size, "GiB")
        raise InvalidConfigError(
            "", f"{path.name} is {size} long, more than the maximum of {most >> 20} MiB"
        ) from error


def _contents(path: Path, name: str) -> FileContents:
    """Contents of a weight file; empty for a format without a reader."""
    format_ = format_of(name)
    if format_ is None or format_.read is None:
        return FileContents(tensors=())
    with os.fdopen(open_plain(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size

        def fetch(start: int, stop: int) -> Piece:
            file.seek(start)
            return Piece(content=file.read(stop - start), size=size)

        return read_contents(format_, name, fetch, near=True)
