"""Models on this machine: a folder with config.json, a weight file, a snapshot in the Hugging Face cache."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from hfmem.errors import InvalidConfigError, ModelNotFoundError
from hfmem.fetcher.configs import CONFIG, parse_object, quantisation_file, shard_names
from hfmem.fetcher.formats.protocol import FileContents
from hfmem.fetcher.formats.reading import Piece, read_contents
from hfmem.fetcher.formats.table import format_of, formats, readable
from hfmem.fetcher.selection import INDEX, PIPELINE, Selection, select
from hfmem.fetcher.values import Checkpoint, FileInfo, ModelRef

__all__ = ["is_local", "read", "snapshot", "why_not"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_local(model: str) -> bool:
    """Whether the word names something on this machine that can be read: a file of a format that is known, or a folder
    that holds config.json, model_index.json or a file whose header can be read. It then wins over a Hub id of the same
    spelling, as `transformers` has it."""
    try:
        path = Path(model).expanduser()
        if path.is_dir():
            suffixes = [suffix for format_ in readable() for suffix in format_.suffixes]
            return any((path / name).is_file() for name in (CONFIG, PIPELINE)) or any(
                next(path.glob(f"*{suffix}"), None) for suffix in suffixes
            )
        return path.is_file() and format_of(path.name) is not None
    except (OSError, RuntimeError, ValueError):  # RuntimeError: the home of a user who is not there
        return False


def why_not(model: str) -> str:
    """Why a word that cannot be a Hub id is no local model either."""
    try:
        if Path(model).expanduser().is_dir():
            names = (CONFIG, *(format_.name for format_ in readable()))
            return f"the folder holds neither {' nor '.join(names)}"
        if Path(model).expanduser().is_file():
            suffixes = (suffix for format_ in formats() for suffix in format_.suffixes)
            return f"the file is neither {' nor '.join(suffixes)}"
    except (OSError, RuntimeError, ValueError):
        pass
    return "neither a model id (owner/name) nor a folder or file that can be read"


def read(ref: ModelRef) -> Checkpoint:
    """The checkpoint of a folder or of one file.

    Raises:
        ModelNotFoundError: the path holds nothing that can be read.
        InvalidFileError: a file that is not what its name says.
    """
    path = Path(ref.model_id).expanduser()
    try:
        return _read_file(ref, path) if path.is_file() else _read_folder(ref, path)
    except OSError as error:
        raise ModelNotFoundError(ref.model_id, f"{path} cannot be read: {error.strerror or error}") from error


def snapshot(ref: ModelRef) -> Checkpoint | None:
    """The model's snapshot in the Hugging Face cache, if its configuration and weights were downloaded before."""
    repository = Path(constants.HF_HUB_CACHE) / f"models--{ref.model_id.replace('/', '--')}"
    try:
        commit = ref.revision
        if not _COMMIT.fullmatch(commit):
            commit = (repository / "refs" / ref.revision).read_text(encoding="ascii").strip()
        folder = repository / "snapshots" / commit
        if not _COMMIT.fullmatch(commit) or not (folder / CONFIG).is_file():
            return None
        found = _read_folder(ref, folder)
    except (OSError, ValueError, InvalidConfigError):
        return None
    provenance = "the Hugging Face cache on this machine"
    return replace(found, commit=commit, source="cache", provenance=provenance) if found.tensors else None


def _read_file(ref: ModelRef, path: Path) -> Checkpoint:
    config = path.parent / CONFIG
    file = FileInfo(name=path.name, size=path.stat().st_size)
    beside = _read_config(config) if config.is_file() else None
    note = f"config.json beside {path.name} is taken to be its configuration." if beside is not None else ""
    contents = _contents(path, path.name)
    return Checkpoint(
        ref=ref,
        commit=None,
        source="local",
        provenance=str(path),
        config=beside,
        tensors=contents.tensors,
        files=(file,),
        weight_files=(file,),
        metadata={path.name: contents.metadata} if contents.metadata else {},
        notes=(note,) if note else (),
    )


def _read_folder(ref: ModelRef, path: Path) -> Checkpoint:
    files = tuple(_listing(path))
    names = {file.name for file in files}
    weights, missing, notes = _weights(path, select(files), files)
    contents = {file.name: _contents(path / file.name, file.name) for file in weights}
    tensors = tuple(tensor for found in contents.values() for tensor in found.tensors)
    config = None
    if CONFIG in names:
        try:
            config = _read_config(path / CONFIG)
        except InvalidConfigError as error:
            if not tensors:
                raise
            notes.append(f"{error.reason}; the weights are counted without it.")
    side = quantisation_file(config, names)
    return Checkpoint(
        ref=ref,
        commit=None,
        source="local",
        provenance=str(path),
        config=config,
        quantisation=_read_config(path / side) if side is not None else None,
        tensors=tensors,
        files=files,
        weight_files=weights,
        metadata={name: found.metadata for name, found in contents.items() if found.metadata},
        missing=missing,
        notes=tuple(notes),
    )


def _listing(path: Path) -> list[FileInfo]:
    """Files of the folder and of its direct subfolders (where diffusers and sentence-transformers keep parts)."""
    found = [item for pattern in ("*", "*/*") for item in path.glob(pattern) if item.is_file()]
    return [FileInfo(name=item.relative_to(path).as_posix(), size=item.stat().st_size) for item in sorted(found)]


def _weights(
    path: Path, selection: Selection, files: tuple[FileInfo, ...]
) -> tuple[tuple[FileInfo, ...], int, list[str]]:
    """The chosen files that are here, how many are not, and a note on them."""
    here, missing = selection.weights, selection.missing
    if selection.layout == "sharded" and any(file.name == INDEX for file in files):
        try:
            shards = shard_names(parse_object((path / INDEX).read_bytes(), INDEX))
        except InvalidConfigError:
            if not here:
                raise
        else:
            here = tuple(file for file in files if file.name in shards)
            missing = len(shards) - len(here)
    words = f"{missing} of {missing + len(here)} shards are not in the folder; their weights are not counted."
    return here, missing, [words] if missing else []


def _read_config(path: Path) -> dict[str, Any]:
    return parse_object(path.read_bytes(), path.name)


def _contents(path: Path, name: str) -> FileContents:
    """What a weight file holds; nothing for one of a format that is not read."""
    format_ = format_of(name)
    if format_ is None or format_.read is None:
        return FileContents(tensors=())
    with path.open("rb") as file:
        size = path.stat().st_size

        def fetch(start: int, stop: int) -> Piece:
            file.seek(start)
            return Piece(content=file.read(stop - start), size=size)

        return read_contents(format_, name, fetch)
