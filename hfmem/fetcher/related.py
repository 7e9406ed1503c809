"""The forms of a base model: repositories that name it as what they were made of, on the Hub or in the catalog.

The Hub has a filter for each relation (`base_model:quantized:ID`), and answers in pages. A row of them has the commit,
the names of the files and the public totals, so that a form takes two more requests: its config and its headers, or, of
files whose sizes are needed, the listing and one header.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from huggingface_hub import constants

from hfmem.errors import HfmemError, UnexpectedAnswerError
from hfmem.fetcher import catalog
from hfmem.fetcher.concurrent import unforeseen
from hfmem.fetcher.configs import PROCESSOR_FILES
from hfmem.fetcher.foreign import foreign
from hfmem.fetcher.identity import is_model_id
from hfmem.fetcher.reach import Reach
from hfmem.fetcher.selection import select_for
from hfmem.fetcher.sources import fetch, fetch_listed
from hfmem.fetcher.values import Access, Checkpoint, FileInfo, Info, ModelRef

if TYPE_CHECKING:
    from hfmem.fetcher.http import Client

__all__ = ["RELATIONS", "Form", "Related", "read_forms", "related"]

RELATIONS: Final = ("quantized", "adapter", "finetune", "merge")
"""What a repository can be to its base model, as the Hub names it; those that are other forms of it first."""

_FIELDS: Final = ("sha", "siblings", "safetensors", "config", "gated", "disabled", "cardData")
_PAGE: Final = 100  # rows of a page: one with the files of as many repositories takes a few hundred kB
_LONGEST_PAGE: Final = 64 * 2**20  # bytes
_MOST_PAGES: Final = 1000  # of one relation, whatever the server says


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A repository that was made of a base model.

    Attributes:
        ref: the repository, or one of its files.
        relation: what it is to the base.
        info: what the Hub's listing says of it; None from the catalog.
        fault: why the listing does not tell enough; None if it does.
    """

    ref: ModelRef
    relation: str
    info: Info | None = None
    fault: HfmemError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """The forms of a base model.

    Attributes:
        forms: in the order of `RELATIONS`, then as the Hub has them, the most downloaded first; each repository once.
        more: the relations of which there are more than were asked for.
        source: `hub` or `catalog`.
        reason: why the Hub was not asked; "" if it was.
    """

    forms: tuple[Form, ...]
    more: tuple[str, ...] = ()
    source: str = "hub"
    reason: str = ""


def related(base: str, access: Access, most: int) -> Related:
    """The forms of a base model, of all relations at most so many; where the Hub cannot be asked, those in the catalog.

    Raises:
        HfmemError: the Hub refuses to list them.
    """
    if access.offline or constants.is_offline_mode():
        return _catalogued(base, most, "offline")
    try:
        return _listed(base, access, most)
    except HfmemError as error:
        found = _catalogued(base, most, error.reason or error.code())
        if not found.forms:
            raise
        return found


def _catalogued(base: str, most: int, reason: str) -> Related:
    """Those that the catalog has."""
    names = catalog.forms_of(base)
    forms = tuple(Form(ref=ModelRef(model_id=name), relation=RELATIONS[0]) for name in names[:most])
    return Related(forms=forms, more=RELATIONS[:1] if len(names) > most else (), source="catalog", reason=reason)


def _listed(base: str, access: Access, most: int) -> Related:
    """Those that the Hub lists: all relations are asked at once, as most of them have few."""
    from hfmem.fetcher.http import client_for  # the client costs a tenth of a second to import
    from hfmem.fetcher.hub import connect

    connect()
    client = client_for(base, access.token, patient=lambda: True, login=access.mine)
    with ThreadPoolExecutor(max_workers=len(RELATIONS), thread_name_prefix="hfmem-related") as pool:
        asked = [pool.submit(_rows, client, base, relation, most) for relation in RELATIONS]
        found = dict(zip(RELATIONS, (one.result() for one in asked), strict=True))
    forms: dict[str, Form] = {}
    more = []
    for relation, (rows, rest) in found.items():
        new = [row for row in rows if row["id"] not in forms and row["id"].lower() != base.lower()]
        room = most - len(forms)
        forms |= {row["id"]: _form(row, relation) for row in new[:room]}
        if rest or len(new) > room:
            more.append(relation)
    return Related(forms=tuple(forms.values()), more=tuple(more))


def _rows(client: Client, base: str, relation: str, most: int) -> tuple[list[Mapping[str, Any]], bool]:
    """The rows of a relation, and whether there are more."""
    query = [("filter", f"base_model:{relation}:{base}"), ("sort", "downloads"), ("direction", "-1")]
    query += [("limit", str(min(most + 1, _PAGE))), *(("expand[]", field) for field in _FIELDS)]
    url: str | None = f"{constants.ENDPOINT}/api/models?{urlencode(query)}"
    rows: list[Mapping[str, Any]] = []
    for _ in range(_MOST_PAGES):
        answer = client.get(url or "", limit=_LONGEST_PAGE + 1)
        rows += _parsed(answer.content, base)
        url = answer.following
        if url is None or len(rows) > most:
            break
        if not url.startswith(f"{constants.ENDPOINT}/api/models?"):
            raise UnexpectedAnswerError(base, "the next page of the listing is at another address")
    return rows[:most], len(rows) > most or url is not None


def _parsed(content: bytes, base: str) -> list[Mapping[str, Any]]:
    """The rows of a page that name a repository."""
    try:
        rows = json.loads(content) if len(content) <= _LONGEST_PAGE else None
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list):
        raise UnexpectedAnswerError(base, "the listing of its forms is no list")
    named = (row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str))
    return [row for row in named if is_model_id(row["id"])]


def _form(row: Mapping[str, Any], relation: str) -> Form:
    from hfmem.fetcher.hub import info_of

    ref = ModelRef(model_id=row["id"], hub=True)
    try:
        return Form(ref=ref, relation=relation, info=info_of(ref, row))
    except HfmemError as error:
        return Form(ref=ref, relation=relation, fault=error)


def read_forms(  # noqa: PLR0913 - what each form is read with
    forms: Sequence[Form],
    access: Access,
    jobs: int,
    base: Checkpoint,
    *,
    media: bool,
    done: Callable[[], object] = lambda: None,
) -> Iterator[tuple[Form, Checkpoint | HfmemError]]:
    """The checkpoint or error of each form, in order; a repository with several files of another kind than GGUF is one
    form a file.

    Args:
        forms: the forms.
        access: how to read them.
        jobs: how many are read at once.
        base: the base model, on which adapters are put.
        media: whether the files of processors are needed, which count images and sound.
        done: called from another thread as each form was read.
    """
    reach = Reach()
    read = _Reading(access, reach, _Bases(base, access, reach).read, media=media)
    with ThreadPoolExecutor(max_workers=max(1, jobs), thread_name_prefix="hfmem-form") as pool:
        asked: list[Future[list[tuple[Form, Checkpoint | HfmemError]]]] = [pool.submit(read.each, one) for one in forms]
        for one in asked:
            one.add_done_callback(lambda _: done())
        try:
            for one in asked:
                yield from one.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Bases:
    """The base models that adapters name: each is read once."""

    def __init__(self, base: Checkpoint, access: Access, reach: Reach) -> None:
        self.access, self.reach = access, reach
        self.lock = threading.Lock()
        self.known: dict[tuple[str, str], Checkpoint | HfmemError] = {(base.ref.model_id.lower(), "main"): base}

    def read(self, ref: ModelRef) -> Checkpoint:
        """The checkpoint of a base.

        Raises:
            HfmemError: it was not found, or is unreadable.
        """
        key = (ref.model_id.lower(), ref.revision)
        with self.lock:
            if key not in self.known:
                try:
                    self.known[key] = fetch(ref, self.access, self.reach)
                except HfmemError as error:
                    self.known[key] = error
            found = self.known[key]
        if isinstance(found, HfmemError):
            raise found
        return found


class _Reading:
    """Reads forms."""

    def __init__(self, access: Access, reach: Reach, base: Callable[[ModelRef], Checkpoint], *, media: bool) -> None:
        self.access, self.reach, self.base, self.media = access, reach, base, media

    def each(self, form: Form) -> list[tuple[Form, Checkpoint | HfmemError]]:
        """What there is of a form: one checkpoint, or one of each file."""
        if form.fault is not None:
            return [(form, form.fault)]
        try:
            form = self._sized(form)
        except HfmemError as error:
            return [(form, error)]
        return [(one, self._attempted(one)) for one in _files(form)]

    def _sized(self, form: Form) -> Form:
        """The form with the sizes of its files, where they tell what headers do not."""
        if form.info is None or _tells(form.info.files, form.ref):
            return form
        from hfmem.fetcher.http import client_for
        from hfmem.fetcher.hub import read_info

        client = client_for(
            form.ref.model_id, self.access.token, patient=lambda: True, reach=self.reach, login=self.access.mine
        )
        return replace(form, info=read_info(client, form.ref))

    def _attempted(self, form: Form) -> Checkpoint | HfmemError:
        ref, info = form.ref, form.info
        try:
            if info is None:
                return fetch(ref, self.access, self.reach)
            if not self.media:
                info = info._replace(files=tuple(file for file in info.files if file.name not in PROCESSOR_FILES))
            return fetch_listed(ref, info, self.access, self.reach, self.base)
        except HfmemError as error:
            error.model = error.model or ref.model_id
            return error
        except Exception as error:
            return unforeseen(ref, error)


_FROM_HEADERS: Final = ("single", "sharded", "adapter", "bin")
"""Layouts whose headers tell the bytes of all tensors."""


def _tells(files: Sequence[FileInfo], ref: ModelRef) -> bool:
    """Whether the headers of files tell the bytes of all tensors; those of ONNX do."""
    layout = select_for(files, ref).layout
    return layout in _FROM_HEADERS or (layout == "foreign" and any(map(_is_onnx, files)))


def _is_onnx(file: FileInfo) -> bool:
    return file.name.endswith(".onnx")


def _files(form: Form) -> list[Form]:
    """A form for each of several ONNX files of a repository that has nothing else; otherwise the form itself."""
    info = form.info
    if info is None or select_for(info.files, form.ref).layout != "foreign":
        return [form]
    mains = [file for kind in foreign(info.files) for file in kind.files if _is_onnx(file)]
    return [_picked(form, file) for file in mains] if len(mains) > 1 else [form]


def _picked(form: Form, file: FileInfo) -> Form:
    return replace(form, ref=replace(form.ref, file=file.name, picked=True))
