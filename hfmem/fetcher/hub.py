"""Reads a repository on the Hub: its file listing, config.json and headers of weight files; never a weight.

Independent requests are sent concurrently. A model whose listing and config tell all takes two; a single-file model
three (listing, config, header), a sharded one four with the Hub's endpoint for all headers at once
(`safetensors-metadata`, only for `main`), or one more per shard without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import cache as memoised
from threading import BoundedSemaphore
from typing import Any, Final
from urllib.parse import quote

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session

from hfmem.errors import (
    AccessDeniedError,
    DisabledModelError,
    GatedModelError,
    HfmemError,
    InvalidConfigError,
    InvalidFileError,
    ModelNotFoundError,
    UnexpectedAnswerError,
)
from hfmem.fetcher.cards import card_base
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
from hfmem.fetcher.formats import safetensors
from hfmem.fetcher.formats.protocol import FileContents
from hfmem.fetcher.formats.reading import Piece, contents_notes, is_whole, read_contents, tensors_of
from hfmem.fetcher.formats.table import format_of
from hfmem.fetcher.http import Answer, Client, FileMissingError
from hfmem.fetcher.identity import is_model_id
from hfmem.fetcher.pipelines import PIPELINE, config_files
from hfmem.fetcher.selection import INDEX, SINGLE, Selection, first_readable, select_for
from hfmem.fetcher.tensors import each_once
from hfmem.fetcher.values import Checkpoint, FileInfo, Info, ModelRef
from hfmem.units import MIB

__all__ = ["connect", "info_of", "read", "read_info"]

_LONGEST_LISTING: Final = 64 * MIB  # a listing of 100,000 files takes about 30 MiB
_LONGEST_HEADERS: Final = 64 * MIB  # all headers of DeepSeek-V3 (90,000 tensors) take about 10 MiB
_MOST_HEADER_PARTS: Final = 2_500_000  # lists and objects; each tensor has three
_LONG: Final = 4 * MIB  # a large read, of which only a few run at once to limit memory
_LONG_READS: Final = BoundedSemaphore(4)
_WORKERS: Final = 32

_LONGEST_NAME: Final = 4096  # characters of a file path
_LARGEST_FILE: Final = 2**50  # bytes, or elements of a model; the Hub accepts files of up to 500 GB

_LONGEST_WHOLE: Final = 64 * 2**20  # bytes read of a file if the server ignores range requests

_Read = tuple[FileContents, str | None]  # contents of a file, and its commit
_Contents = dict[str, FileContents]  # contents by file name


def connect() -> None:
    """Create the shared session, so that the first requests do not wait for each other to create it. Raises if it
    cannot be created, as the requests will."""
    get_session()


def read_info(client: Client, ref: ModelRef) -> Info:
    """The listing, commit and totals of a revision."""
    url = f"{constants.ENDPOINT}/api/models/{ref.model_id}"
    if ref.revision != constants.DEFAULT_REVISION:
        url += f"/revision/{quote(ref.revision, safe='')}"
    try:
        parsed = _json(client, f"{url}?blobs=true", "the answer about the repository", _LONGEST_LISTING)
    except FileMissingError as error:
        raise ModelNotFoundError(ref.model_id, "the Hub has no such model") from error
    except InvalidConfigError as error:
        raise UnexpectedAnswerError(ref.model_id, error.reason) from error
    if parsed.get("disabled") is True:
        raise DisabledModelError(ref.model_id, "the repository is switched off")
    return info_of(ref, parsed)


def read(
    client: Client, ref: ModelRef, info: Info | None = None, agrees: Callable[[Checkpoint], bool] | None = None
) -> Checkpoint:
    """The checkpoint of a revision. For a gated repository without access, only its public part: `gated` is set, and
    there are no tensors.

    Args:
        client: the client.
        ref: the requested model and revision.
        info: the repository's information, if it was requested before.
        agrees: whether a checkpoint is known well enough without the headers of its files; None to read them.
    """
    try:
        return _read(client, ref, info, agrees)
    finally:
        client.abandoned.set()


def _read(client: Client, ref: ModelRef, info: Info | None, agrees: Callable[[Checkpoint], bool] | None) -> Checkpoint:
    # repositories with GGUF files are named accordingly, and rarely have config.json or model.safetensors
    early = not ref.quant and not ref.model_id.lower().endswith("gguf") and (info is None or _has_config(info))
    early_config = pool().submit(client.get, _file_url(ref, CONFIG), limit=LONGEST_CONFIG + 1) if early else None
    blind = early and info is None and agrees is None  # else config and totals may tell all
    early_header = pool().submit(read_file, client, ref, SINGLE) if blind else None
    info = info or read_info(client, ref)
    notes = _renamed(ref, info)
    pinned = ModelRef(model_id=info.model_id, revision=info.commit or ref.revision)
    selection = select_for(info.files, ref)
    if early_config is None and selection.layout != "gguf" and _has_config(info):
        early_config = pool().submit(client.get, _file_url(pinned, CONFIG), limit=LONGEST_CONFIG + 1)
    try:
        config = _config(client, pinned, early_config, notes)
        listed = replace(_listed(ref, info, notes), config=config)
        if agrees is not None and (known := _unopened(client, info, listed, agrees)):
            return known
        pipeline, selection = _pipeline(client, ref, pinned, info, selection)
        parts = _parts(client, pinned, info.files, pipeline)
        side = pool().submit(_beside, client, pinned, quantisation_file(config, (f.name for f in info.files)))
        adapted = pool().submit(_beside, client, pinned, _adapter_file(selection))
        prepared = _processing(client, pinned, info.files)
        selection = _as_indexed(client, pinned, info.files, selection)
        selection, contents = _chosen(client, ref, pinned, selection, early_header)
        quantisation, adapter, configs = side.result(), adapted.result(), _answers(parts)
    except GatedModelError:
        if not info.totals and not info.config and selection.layout != "pipeline":
            raise
        return _public_part(ref, info, notes)
    except ModelNotFoundError as error:
        raise _refused(error) from error.__cause__
    found = replace(
        listed,
        quantisation=quantisation,
        adapter=adapter,
        pipeline=pipeline,
        configs=configs,
        processing={name: processor_settings(one) for name, one in _answers(prepared).items()},
    )
    return _filled(found, contents, selection)


def _unopened(
    client: Client, info: Info, listed: Checkpoint, agrees: Callable[[Checkpoint], bool]
) -> Checkpoint | None:
    """A checkpoint without the headers of its files, where its config and the totals tell the same; else None."""
    selection = select_for(info.files, listed.ref)
    if selection.layout not in ("single", "sharded") or selection.missing or not selection.weights or listed.ref.quant:
        return None
    if quantisation_file(listed.config, (file.name for file in info.files)) is not None:
        return None
    found = replace(listed, weight_files=selection.weights, agreed=True)
    if not agrees(found):
        return None
    pinned = ModelRef(model_id=info.model_id, revision=info.commit or listed.ref.revision)
    prepared = _processing(client, pinned, info.files)
    return replace(found, processing={name: processor_settings(one) for name, one in _answers(prepared).items()})


def _renamed(ref: ModelRef, info: Info) -> list[str]:
    return [f"{ref.model_id} is now {info.model_id}."] if info.model_id.lower() != ref.model_id.lower() else []


def _has_config(info: Info) -> bool:
    return any(file.name == CONFIG for file in info.files)


def _listed(ref: ModelRef, info: Info, notes: Sequence[str]) -> Checkpoint:
    """What the Hub's information on a repository says of it."""
    return Checkpoint(
        ref=ref,
        commit=info.commit,
        source="hub",
        provenance=constants.ENDPOINT.partition("://")[2],
        config=None,
        files=info.files,
        totals=info.totals,
        card_base=info.card_base,
        notes=tuple(notes),
    )


def _pipeline(
    client: Client, ref: ModelRef, pinned: ModelRef, info: Info, selection: Selection
) -> tuple[Mapping[str, Any] | None, Selection]:
    """model_index.json of a pipeline, and the files that are loaded according to it."""
    index = _beside(client, pinned, PIPELINE) if selection.layout == "pipeline" else None
    return index, selection if index is None else select_for(info.files, ref, index)


def _parts(
    client: Client, pinned: ModelRef, files: Sequence[FileInfo], index: Mapping[str, Any] | None
) -> dict[str, Future[Mapping[str, Any] | None]]:
    """The requests for the config.json of each component of a pipeline."""
    found = config_files(files, index or {})
    return {name: pool().submit(_beside, client, pinned, file) for name, file in found.items()}


def _answers(asked: Mapping[str, Future[Mapping[str, Any] | None]]) -> dict[str, Mapping[str, Any]]:
    """What came of requests for files, without those that are missing or invalid."""
    return {name: found for name, one in asked.items() if (found := one.result()) is not None}


def _processing(
    client: Client, pinned: ModelRef, files: Sequence[FileInfo]
) -> dict[str, Future[Mapping[str, Any] | None]]:
    """Requests for the processor's files that the repository has, beside those for its headers."""
    listed = {file.name for file in files}
    return {name: pool().submit(_beside, client, pinned, name) for name in PROCESSOR_FILES if name in listed}


def _adapter_file(selection: Selection) -> str | None:
    return selection.folder + ADAPTER if selection.layout == "adapter" else None


def _filled(checkpoint: Checkpoint, contents: _Contents, selection: Selection) -> Checkpoint:
    """A checkpoint with the contents of its files. Tensor names are unique over shards, but not over other files."""
    tensors = tensors_of(contents)
    tensors, doubts = each_once(tensors) if selection.layout == "sharded" else (tensors, ())
    return replace(
        checkpoint,
        tensors=tensors,
        weight_files=selection.weights or tuple(file for file in checkpoint.files if file.name in contents),
        metadata={name: found.metadata for name, found in contents.items() if found.metadata},
        faults=tuple(fault for found in contents.values() for fault in found.faults),
        doubts=doubts,
        missing=selection.missing,
        unread=selection.unread,
        notes=(*checkpoint.notes, *_missing_note(selection), *contents_notes(contents)),
    )


def _missing_note(selection: Selection) -> list[str]:
    missing, shards = selection.missing, selection.missing + len(selection.weights)
    words = f"{missing} of {shards} shards are not in the repository; their weights are not counted."
    return [words] if missing and selection.layout == "sharded" else []


def _refused(error: ModelNotFoundError) -> HfmemError:
    """The error for a file that is listed but not found: a 401 means both that it does not exist and that the user has
    no access, but as it is listed it exists."""
    cause = error.__cause__
    if isinstance(cause, HfHubHTTPError) and cause.response.status_code == 401:
        return AccessDeniedError(error.model, "its files need a token or an accepted licence")
    return error


def _public_part(ref: ModelRef, info: Info, notes: list[str]) -> Checkpoint:
    return Checkpoint(
        ref=ref,
        commit=info.commit,
        source="hub",
        provenance=f"{constants.ENDPOINT.partition('://')[2]}, public data of a gated model",
        config=info.config,
        files=info.files,
        weight_files=select_for(info.files, ref).weights,
        totals=info.totals,
        gated=True,
        notes=tuple(notes),
    )


def _config(
    client: Client, pinned: ModelRef, early: Future[Answer] | None, notes: list[str]
) -> Mapping[str, Any] | None:
    """config.json of the listed commit, requested again if the branch moved in between. If it is invalid, a note is
    added, and the weights are counted without it. None if it was not requested."""
    if early is None:
        return None
    try:
        answer = early.result()
        if answer.commit not in (None, pinned.revision):
            return _json(client, _file_url(pinned, CONFIG), CONFIG, LONGEST_CONFIG)
        return _parsed(answer, CONFIG, LONGEST_CONFIG)
    except FileMissingError:
        return None
    except InvalidConfigError as error:
        notes.append(f"{error.reason}; the weights are counted without it.")
        return None


def _beside(client: Client, pinned: ModelRef, file: str | None) -> Mapping[str, Any] | None:
    """Contents of another JSON file next to config.json; None if it is missing or invalid."""
    if file is None:
        return None
    try:
        return _json(client, _file_url(pinned, file), file, LONGEST_CONFIG)
    except (FileMissingError, InvalidFileError):
        return None


def _chosen(
    client: Client, ref: ModelRef, pinned: ModelRef, selection: Selection, early: Future[_Read] | None
) -> tuple[Selection, _Contents]:
    """The contents of the selected files; of several models, those of the first that can be read."""
    if not selection.choices or not selection.weights:
        return selection, _contents(client, ref, pinned, selection, early)
    return first_readable(selection, lambda files: _of_files(client, pinned, files))


def _of_files(client: Client, pinned: ModelRef, files: Sequence[FileInfo]) -> _Contents:
    """The contents of files, requested concurrently."""
    futures = {file.name: pool().submit(_read_listed, client, pinned, file) for file in files}
    return {name: future.result() for name, future in futures.items()}


def _contents(
    client: Client,
    ref: ModelRef,
    pinned: ModelRef,
    selection: Selection,
    early: Future[_Read] | None,
) -> _Contents:
    """Contents of the selected files, except those of formats without a reader."""
    if selection.layout == "sharded":
        return _sharded(client, ref, pinned, selection)
    files = [file for file in selection.weights if (format_ := format_of(file.name)) and format_.read]
    rest = {
        file.name: pool().submit(_read_listed, client, pinned, file)
        for file in files
        if file.name != SINGLE or early is None
    }
    found = {name: future.result() for name, future in rest.items()}
    if early is not None and any(file.name == SINGLE for file in files):
        found[SINGLE] = checked(client, pinned, early)
    return {file.name: found[file.name] for file in files}


def checked(client: Client, pinned: ModelRef, early: Future[_Read]) -> FileContents:
    """The header that was requested before the listing arrived; requested again if the branch moved in between."""
    single = FileInfo(name=SINGLE, size=None)
    try:
        contents, commit = early.result()
    except FileMissingError:
        return _read_listed(client, pinned, single)
    return contents if commit in (None, pinned.revision) else _read_listed(client, pinned, single)


def _sharded(client: Client, ref: ModelRef, pinned: ModelRef, selection: Selection) -> _Contents:
    if ref.revision == constants.DEFAULT_REVISION:
        found = _one_request(client, pinned, selection.weights)
        if found:
            return found
    files = selection.weights or tuple(FileInfo(name=name, size=None) for name in sorted(_indexed(client, pinned)))
    return _of_files(client, pinned, files)


def _as_indexed(client: Client, pinned: ModelRef, files: Sequence[FileInfo], selection: Selection) -> Selection:
    """The shards that the index names, where their own names do not tell whether all are there. The Hub's endpoint for
    all headers does not tell it either."""
    if selection.layout != "sharded" or selection.weights:
        return selection
    try:
        names = _indexed(client, pinned)
    except InvalidFileError:
        return selection
    here = tuple(file for file in files if file.name in names)
    if not here:
        raise InvalidFileError(client.model, f"{INDEX} names {len(names)} files, and none of them is there")
    return replace(selection, weights=here, missing=len(names) - len(here))


def _one_request(client: Client, pinned: ModelRef, shards: Sequence[FileInfo]) -> _Contents:
    """All shard headers from the Hub's endpoint; {} if the endpoint is missing or fails, as on mirrors and older
    servers, or describes other files than the listed ones. Headers are then read one by one."""
    url = f"{constants.ENDPOINT}/api/models/{pinned.model_id}/safetensors-metadata/{INDEX}"
    try:
        answer = _json(client, url, "the answer with all headers", _LONGEST_HEADERS, _MOST_HEADER_PARTS)
        headers = answer.get("headers")
        if not isinstance(headers, dict):
            return {}
        found = {shard: safetensors.contents_of(header, shard) for shard, header in headers.items()}
        return found if fits(headers, shards) else {}
    except GatedModelError:
        raise
    except (FileMissingError, HfmemError):
        return {}


def fits(headers: Mapping[str, Any], shards: Sequence[FileInfo]) -> bool:
    """Whether headers belong to the listed shards: the endpoint always describes the newest commit."""
    if not shards:
        return True
    if set(headers) != {file.name for file in shards}:
        return False
    return all(file.size is None or safetensors.belongs(headers[file.name], file.size) for file in shards)


def _indexed(client: Client, pinned: ModelRef) -> set[str]:
    """The names of the shards, from the index."""
    try:
        return set(shards_of(_json(client, _file_url(pinned, INDEX), INDEX, LONGEST_INDEX)).values())
    except FileMissingError as error:
        raise InvalidFileError(client.model, f"{INDEX} is listed but cannot be read") from error


def _json(client: Client, url: str, file: str, longest: int, most: int | None = None) -> dict[str, Any]:
    """The JSON object at an address; see `_parsed`."""
    return _parsed(client.get(url, limit=longest + 1), file, longest, most)


def _parsed(answer: Answer, file: str, longest: int, most: int | None = None) -> dict[str, Any]:
    """The JSON object in a response of at most `longest` bytes.

    Raises:
        InvalidConfigError: it is longer, not a JSON object, or has more than `most` lists and objects.
    """
    if len(answer.content) > longest:
        raise InvalidConfigError("", f"{file} exceeds the limit of {longest >> 20} MiB")
    return parse_object(answer.content, file) if most is None else parse_object(answer.content, file, most)


def _read_listed(client: Client, ref: ModelRef, file: FileInfo) -> FileContents:
    """Contents of a listed file.

    Raises:
        InvalidFileError: the file is missing nevertheless, or not of the format that its name indicates; unless the
            format is optional.
    """
    try:
        return read_file(client, ref, file.name, file.size)[0]
    except FileMissingError as error:
        missing = f"{file.name} is listed but missing"
        if (format_ := format_of(file.name)) is not None and format_.optional:
            return FileContents(tensors=(), unread=missing)
        raise InvalidFileError(client.model, missing) from error


def read_file(client: Client, ref: ModelRef, file: str, size: int | None = None) -> _Read:
    """Contents of one file and its commit, from the byte ranges that its format requests: a first range that covers
    most headers, and more for longer ones, of which only a few are in memory at a time. `size` is from the listing.
    """
    format_ = format_of(file)
    if format_ is None:
        raise InvalidFileError(client.model, f"{file} has an unknown format")
    commits: list[str | None] = []
    held, waited = ExitStack(), False

    def fetch(start: int, stop: int) -> Piece:
        nonlocal waited
        if max(stop - start, 0 if start else format_.ahead) > _LONG and not waited:
            waited = held.enter_context(_LONG_READS)
        url = _file_url(ref, file)
        if start == 0 and format_.ahead > stop:
            answer = client.get(
                url,
                limit=format_.ahead,
                span=(0, format_.ahead - 1),
                enough=lambda content: is_whole(format_, file, content),
            )
        else:
            answer = _range(client, url, start, stop)
        commits.append(answer.commit)
        return Piece(content=answer.content, size=answer.size)

    with held:
        contents = read_contents(format_, file, fetch, size)
    return contents, next(iter(commits), None)


def _range(client: Client, url: str, start: int, stop: int) -> Answer:
    answer = client.get(url, limit=stop - start, span=(start, stop - 1))
    if answer.status != 200 or start == 0:
        return answer
    # a server that ignores ranges sends the file from its beginning
    if stop > _LONGEST_WHOLE:
        raise UnexpectedAnswerError(client.model, "the server ignores range requests and sends whole files")
    answer = client.get(url, limit=stop)
    return answer._replace(content=answer.content[start:])


def _file_url(ref: ModelRef, file: str) -> str:
    return f"{constants.ENDPOINT}/{ref.model_id}/resolve/{quote(ref.revision, safe='')}/{quote(file)}"


@memoised
def pool() -> ThreadPoolExecutor:
    """One thread pool for all requests of the process; its tasks never wait for each other, so they cannot deadlock."""
    return ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="hfmem-request")


def info_of(ref: ModelRef, parsed: Mapping[str, Any]) -> Info:
    """What the Hub's answer on a repository, or a row of its listing of repositories, says.

    Raises:
        UnexpectedAnswerError: it has no list of files.
    """
    model_id, commit, siblings = parsed.get("id"), parsed.get("sha"), parsed.get("siblings")
    if not isinstance(siblings, list):
        raise UnexpectedAnswerError(ref.model_id, "the response on the repository has no file listing")
    config, card = parsed.get("config"), parsed.get("cardData")
    return Info(
        model_id=model_id if isinstance(model_id, str) and is_model_id(model_id) else ref.model_id,
        commit=commit if isinstance(commit, str) and re.fullmatch(r"[0-9a-f]{40}", commit) else None,
        files=tuple(_file(item) for item in siblings if isinstance(item, dict) and _safe(item.get("rfilename"))),
        totals=_totals(parsed.get("safetensors")),
        config=config if isinstance(config, dict) and config else None,
        card_base=card_base(card.get("base_model")) if isinstance(card, dict) else "",
    )


def _safe(name: object) -> bool:
    """Whether a file name from the listing is valid and safe to request."""
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or ".." in name.split("/") or name.startswith("/"):
        return False
    return not any("\ud800" <= character <= "\udfff" for character in name)  # lone surrogates


def _file(item: dict[str, Any]) -> FileInfo:
    size = item.get("size")
    return FileInfo(name=item["rfilename"], size=size if type(size) is int and 0 <= size <= _LARGEST_FILE else None)


def _totals(safetensors: object) -> dict[str, int] | None:
    parameters = safetensors.get("parameters") if isinstance(safetensors, dict) else None
    if not isinstance(parameters, dict) or not parameters:
        return None
    counts = {dtype: count for dtype, count in parameters.items() if type(count) is int and 0 <= count <= _LARGEST_FILE}
    return counts if len(counts) == len(parameters) else None
