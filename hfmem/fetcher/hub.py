"""What the Hub says of a repository: its listing, config.json and the headers of its files; never a weight.

Requests that do not depend on each other go out together. A single-file model takes three (listing, configuration,
header), a sharded one four with the Hub's one-request endpoint for all headers (`safetensors-metadata`, of `main` only)
and one more a shard without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
from hfmem.fetcher.configs import (
    ADAPTER,
    CONFIG,
    LONGEST_CONFIG,
    LONGEST_INDEX,
    parse_object,
    quantisation_file,
    shards_of,
)
from hfmem.fetcher.formats import safetensors
from hfmem.fetcher.formats.protocol import FileContents
from hfmem.fetcher.formats.reading import Piece, empty_note, read_contents
from hfmem.fetcher.formats.table import format_of
from hfmem.fetcher.http import Answer, Client, FileMissingError
from hfmem.fetcher.identity import is_model_id
from hfmem.fetcher.selection import INDEX, SINGLE, Selection, first_readable, select_for
from hfmem.fetcher.tensors import each_once
from hfmem.fetcher.values import Checkpoint, FileInfo, ModelRef
from hfmem.units import MIB

__all__ = ["Info", "connect", "read", "read_info"]

_LONGEST_LISTING: Final = 64 * MIB  # of 100,000 files some 30
_LONGEST_HEADERS: Final = 64 * MIB  # all headers of DeepSeek-V3, of 90,000 tensors, are some ten
_MOST_HEADER_PARTS: Final = 2_500_000  # lists and objects in them: a tensor has three
_LONG: Final = 4 * MIB  # bytes that are many for a header
_LONG_READS: Final = BoundedSemaphore(4)
_WORKERS: Final = 32

_LONGEST_NAME: Final = 4096  # characters of a file's path
_LARGEST_FILE: Final = 2**50  # bytes, or elements of a model; the Hub takes files of 500 GB

_LONGEST_WHOLE: Final = 64 * 2**20  # of a file that a server sends from its beginning, whatever part is asked for

_Read = tuple[FileContents, str | None]  # what a file holds, and the commit it is of
_Contents = dict[str, FileContents]  # what each file holds, by its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """The public answer about a repository.

    Attributes:
        model_id: the canonical id (differs from the asked one after a rename).
        commit: the commit the revision points to.
        files: the listing.
        totals: elements by safetensors dtype as the Hub counts them; None where it does not tell.
        config: the part of config.json that the Hub repeats (`model_type`, `architectures`).
    """

    model_id: str
    commit: str | None
    files: tuple[FileInfo, ...]
    totals: Mapping[str, int] | None
    config: Mapping[str, Any] | None


def connect() -> None:
    """Make the session that all requests share, so that the first ones need not wait for each other to make it. Where
    it cannot be made it raises what the requests will say."""
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
    return _info(ref, parsed)


def read(client: Client, ref: ModelRef, info: Info | None = None) -> Checkpoint:
    """The checkpoint of a revision. For a gated repository without access, what is public: `gated` is then set and
    there are no tensors.

    Args:
        client: makes the requests.
        ref: what is asked.
        info: the answer about the repository, where it was asked before.
    """
    try:
        return _read(client, ref, info)
    finally:
        client.abandoned.set()


def _read(client: Client, ref: ModelRef, info: Info | None) -> Checkpoint:
    requests = pool()
    # names of repositories of GGUF files say so by custom: they rarely have either of these
    early = not ref.quant and not ref.model_id.lower().endswith("gguf")
    early_config = requests.submit(client.get, _file_url(ref, CONFIG), limit=LONGEST_CONFIG + 1) if early else None
    early_header = requests.submit(read_file, client, ref, SINGLE) if early and info is None else None
    if info is None:
        info = read_info(client, ref)
    notes = [f"{ref.model_id} is now {info.model_id}."] if info.model_id.lower() != ref.model_id.lower() else []
    pinned = ModelRef(model_id=info.model_id, revision=info.commit or ref.revision)
    selection = select_for(info.files, ref)
    if early_config is None and selection.layout != "gguf":
        early_config = requests.submit(client.get, _file_url(pinned, CONFIG), limit=LONGEST_CONFIG + 1)
    try:
        config = _config(client, pinned, early_config, notes)
        side = pool().submit(_beside, client, pinned, quantisation_file(config, (f.name for f in info.files)))
        adapted = pool().submit(_beside, client, pinned, ADAPTER if selection.layout == "adapter" else None)
        selection, contents = _chosen(client, ref, pinned, selection, early_header)
        quantisation, adapter = side.result(), adapted.result()
    except GatedModelError:
        if not info.totals and not info.config:
            raise
        return _public_part(ref, info, notes)
    except ModelNotFoundError as error:
        raise _refused(error) from error.__cause__
    found = Checkpoint(
        ref=ref,
        commit=info.commit,
        source="hub",
        provenance=constants.ENDPOINT.partition("://")[2],
        config=config,
        quantisation=quantisation,
        adapter=adapter,
        files=info.files,
        totals=info.totals,
        notes=tuple(notes),
    )
    return _filled(found, contents, selection)


def _filled(checkpoint: Checkpoint, contents: _Contents, selection: Selection) -> Checkpoint:
    """A checkpoint with what its files hold. Shards have each tensor once; other files may use the same names."""
    tensors = tuple(tensor for found in contents.values() for tensor in found.tensors)
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
        notes=(*checkpoint.notes, *empty_note(contents)),
    )


def _refused(error: ModelNotFoundError) -> HfmemError:
    """What it means that a file of a listed repository is not found: a 401 looks the same for what is not there and for
    what a user may not see."""
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
    """config.json of the listed commit, asked again if the branch moved between the two answers. One that cannot be
    read leaves the weights as they are; a note says so. None where nobody asked for it."""
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
    """What a file beside config.json says; None where there is none. A broken one costs nothing but what it would have
    told."""
    if file is None:
        return None
    try:
        return _json(client, _file_url(pinned, file), file, LONGEST_CONFIG)
    except (FileMissingError, InvalidFileError):
        return None


def _chosen(
    client: Client, ref: ModelRef, pinned: ModelRef, selection: Selection, early: Future[_Read] | None
) -> tuple[Selection, _Contents]:
    """What the chosen files hold; where there are several models, those of one that can be read."""
    if not selection.choices or not selection.weights:
        return selection, _contents(client, ref, pinned, selection, early)
    return first_readable(selection, lambda files: _of_files(client, pinned, files))


def _of_files(client: Client, pinned: ModelRef, files: Sequence[FileInfo]) -> _Contents:
    """What each of some files holds, asked for together."""
    futures = {file.name: pool().submit(_read_listed, client, pinned, file) for file in files}
    return {name: future.result() for name, future in futures.items()}


def _contents(
    client: Client,
    ref: ModelRef,
    pinned: ModelRef,
    selection: Selection,
    early: Future[_Read] | None,
) -> _Contents:
    """What the chosen files hold, those of formats whose headers are not read left out."""
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
    """The header that was asked for before the listing was there; asked again if the branch moved between the two."""
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


def _one_request(client: Client, pinned: ModelRef, shards: Sequence[FileInfo]) -> _Contents:
    """Every shard's header through the Hub's endpoint for it; nothing where the endpoint is missing or refuses, as on
    mirrors and older servers, or answers of other files than the listed ones: then the headers are read one by one."""
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
    """Whether headers are those of the listed shards: the endpoint answers of the newest commit, whatever was
    listed."""
    if not shards:
        return True
    if set(headers) != {file.name for file in shards}:
        return False
    return all(file.size is None or safetensors.belongs(headers[file.name], file.size) for file in shards)


def _indexed(client: Client, pinned: ModelRef) -> set[str]:
    """Names of the shards, from the index."""
    try:
        return set(shards_of(_json(client, _file_url(pinned, INDEX), INDEX, LONGEST_INDEX)).values())
    except FileMissingError as error:
        raise InvalidFileError(client.model, f"{INDEX} is listed but cannot be read") from error


def _json(client: Client, url: str, file: str, longest: int, most: int | None = None) -> dict[str, Any]:
    """The JSON object at an address; see `_parsed`."""
    return _parsed(client.get(url, limit=longest + 1), file, longest, most)


def _parsed(answer: Answer, file: str, longest: int, most: int | None = None) -> dict[str, Any]:
    """The JSON object of an answer, which may be so many bytes long.

    Raises:
        InvalidConfigError: it is longer, or no JSON object, or one of more than `most` lists and objects.
    """
    if len(answer.content) > longest:
        raise InvalidConfigError("", f"{file} exceeds the limit of {longest >> 20} MiB")
    return parse_object(answer.content, file) if most is None else parse_object(answer.content, file, most)


def _read_listed(client: Client, ref: ModelRef, file: FileInfo) -> FileContents:
    """What a file holds that is listed.

    Raises:
        InvalidFileError: it is not there all the same, or is not what its name says.
    """
    try:
        return read_file(client, ref, file.name, file.size)[0]
    except FileMissingError as error:
        raise InvalidFileError(client.model, f"{file.name} is named but missing") from error


def read_file(client: Client, ref: ModelRef, file: str, size: int | None = None) -> _Read:
    """What one file holds and the commit it is of, from the ranges that its format asks for: one that holds most
    headers whole, and more for the longer ones, of which few are in memory at a time. `size` is what the listing says.
    """
    format_ = format_of(file)
    if format_ is None:
        raise InvalidFileError(client.model, f"{file} has an unknown format")
    commits: list[str | None] = []
    held, waited = ExitStack(), False

    def fetch(start: int, stop: int) -> Piece:
        nonlocal waited
        if stop - start > _LONG and not waited:
            waited = held.enter_context(_LONG_READS)
        answer = _range(client, _file_url(ref, file), start, stop)
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
        raise UnexpectedAnswerError(client.model, "the server sends whole files where a part is asked for")
    answer = client.get(url, limit=stop)
    return replace(answer, content=answer.content[start:])


def _file_url(ref: ModelRef, file: str) -> str:
    return f"{constants.ENDPOINT}/{ref.model_id}/resolve/{quote(ref.revision, safe='')}/{quote(file)}"


@memoised
def pool() -> ThreadPoolExecutor:
    """One pool for all requests of the process: tasks in it never wait for other tasks of it."""
    return ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="hfmem-request")


def _info(ref: ModelRef, parsed: dict[str, Any]) -> Info:
    model_id, commit, siblings = parsed.get("id"), parsed.get("sha"), parsed.get("siblings")
    if not isinstance(siblings, list):
        raise UnexpectedAnswerError(ref.model_id, "the answer about the repository lists no files")
    config = parsed.get("config")
    return Info(
        model_id=model_id if isinstance(model_id, str) and is_model_id(model_id) else ref.model_id,
        commit=commit if isinstance(commit, str) and re.fullmatch(r"[0-9a-f]{40}", commit) else None,
        files=tuple(_file(item) for item in siblings if isinstance(item, dict) and _safe(item.get("rfilename"))),
        totals=_totals(parsed.get("safetensors")),
        config=config if isinstance(config, dict) and config else None,
    )


def _safe(name: object) -> bool:
    """Whether a name can be that of a file of a repository, and be asked for."""
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or ".." in name.split("/") or name.startswith("/"):
        return False
    return not any("\ud800" <= character <= "\udfff" for character in name)  # halves of characters


def _file(item: dict[str, Any]) -> FileInfo:
    size = item.get("size")
    return FileInfo(name=item["rfilename"], size=size if type(size) is int and 0 <= size <= _LARGEST_FILE else None)


def _totals(safetensors: object) -> dict[str, int] | None:
    parameters = safetensors.get("parameters") if isinstance(safetensors, dict) else None
    if not isinstance(parameters, dict) or not parameters:
        return None
    counts = {dtype: count for dtype, count in parameters.items() if type(count) is int and 0 <= count <= _LARGEST_FILE}
    return counts if len(counts) == len(parameters) else None
