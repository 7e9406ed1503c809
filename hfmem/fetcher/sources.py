"""The sources of checkpoints and their order: this machine, the Hub, the cache, the catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from huggingface_hub import constants

from hfmem.errors import (
    AccessDeniedError,
    ConnectionSettingsError,
    DisabledModelError,
    GatedModelError,
    HfmemError,
    HubUnreachableError,
    InvalidTokenError,
    ModelNotFoundError,
    OfflineError,
    RateLimitedError,
    RevisionNotFoundError,
    UnexpectedAnswerError,
)
from hfmem.fetcher import cache, local
from hfmem.fetcher.bases import with_base
from hfmem.fetcher.environment import endpoint_fault
from hfmem.fetcher.formats.table import is_weights
from hfmem.fetcher.identity import is_model_id, is_path, page, why_no_id
from hfmem.fetcher.quantisations import quant_of
from hfmem.fetcher.reach import Reach
from hfmem.fetcher.selection import select_for
from hfmem.fetcher.tensors import rows_of
from hfmem.fetcher.values import Access, Checkpoint, Info, ModelRef, TensorInfo
from hfmem.options.otherwise import Detail, Otherwise

__all__ = ["fetch", "fetch_listed", "is_networked", "prepare"]


Agrees = Callable[[Checkpoint], bool]

# Errors of the Hub after which a stored answer is used, with the beginning of the note. Other errors are raised.
_REFUSALS: Final[tuple[tuple[type[HfmemError], str], ...]] = (
    (OfflineError, "Offline mode is on"),
    (HubUnreachableError, "The Hub cannot be reached"),
    (UnexpectedAnswerError, "The server at the Hub's address does not answer as the Hub does"),
    (RateLimitedError, "The Hub's request quota is used up"),
    (InvalidTokenError, "The Hub does not know the token"),
    (AccessDeniedError, "The Hub refuses access"),
    (DisabledModelError, "The Hub has switched the repository off"),
    (ModelNotFoundError, "The Hub has no such model, or this account cannot see it"),
    (GatedModelError, "The model is gated"),
)


def fetch(ref: ModelRef, access: Access, reach: Reach | None = None) -> Checkpoint:
    """The checkpoint of a Hub id or a local path, with that of its base model if it is an adapter; `reach` is shared by
    the models of a run. The headers of files on the Hub are not read where its `agrees` says of the checkpoint without
    them that it is known as well.

    Raises:
        HfmemError: the model was not found, or is unreadable.
    """
    agrees = reach.agrees if reach is not None else None
    return with_base(_fetched(ref, access, reach, agrees), lambda base: _fetched(base, access, reach))


def _fetched(ref: ModelRef, access: Access, reach: Reach | None, agrees: Agrees | None = None) -> Checkpoint:
    if not access.mine:
        ref = replace(ref, hub=True)
    if not ref.hub and local.is_local(ref.model_id):
        return _local(ref)
    if is_path(ref.model_id) and not access.mine:
        raise ModelNotFoundError(ref.model_id, "a path, and only models of the Hub can be asked for here")
    if is_path(ref.model_id) or (not ref.hub and local.is_there(ref.model_id)):
        raise ModelNotFoundError(ref.model_id, local.why_not(ref.model_id), local=True)
    if reason := why_no_id(ref.model_id):
        raise ModelNotFoundError(ref.model_id, reason)
    found = _found(ref, access, reach or Reach(), agrees)
    notes = tuple(map(Otherwise, _unused(ref, found)))
    return replace(found, notes=(*found.notes, *notes)) if notes else found


def _unused(ref: ModelRef, found: Checkpoint) -> Iterator[str]:
    """Sentences on parts of the reference that had no effect."""
    if ref.beside:
        yield f"--revision {ref.beside} has no effect on {ref.model_id}, which was given with @{ref.revision}."
    if found.source == "catalog" and ref.picked:
        told = found.ref.quant and found.ref.quant == quant_of(ref.file)
        taken = f"taken as {found.ref.quant}, as its name says" if told else "left out"
        yield f"--file {ref.file} is {taken}: the catalog does not list the files of {ref.model_id}."
    if found.source == "catalog" and ref.revision != constants.DEFAULT_REVISION:
        yield f"The catalog has only the revision {constants.DEFAULT_REVISION} of {ref.model_id}, not {ref.revision}."
    counted = {file.name for file in found.weight_files}
    if ref.file and not ref.picked and is_weights(ref.file) and ref.file not in counted:
        yield f"The URL points to {ref.file}; the figures are those of {ref.model_id} as a whole."


def _found(ref: ModelRef, access: Access, reach: Reach, agrees: Agrees | None) -> Checkpoint:
    """The checkpoint of a Hub id."""
    if access.offline or constants.is_offline_mode():
        return _elsewhere(ref, access, OfflineError(ref.model_id, "offline mode is on"))
    try:
        return _from_hub(ref, access, reach, agrees)
    except RevisionNotFoundError:
        raise
    except HfmemError as error:
        error.model = error.model or ref.model_id
        return _elsewhere(ref, access, error)


def is_networked(refs: Iterable[ModelRef], access: Access) -> bool:
    """Whether one of the models may be asked of the Hub."""
    return not (access.offline or constants.is_offline_mode() or all(local.is_local(ref.model_id) for ref in refs))


def prepare(refs: Iterable[ModelRef], access: Access) -> None:
    """Import the HTTP client in advance, if one of the models may need it: several threads that import it at the same
    time would delay their first requests."""
    if not is_networked(refs, access):
        return
    with suppress(Exception):  # reported by each model that needs it
        from hfmem.fetcher import hub

        hub.connect()


def _local(ref: ModelRef) -> Checkpoint:
    found, notes = local.read(ref), []
    if is_model_id(ref.model_id) and Path(ref.model_id).is_dir():  # nobody means a model by the name of a weight file
        notes.append(
            f"'{ref.model_id}' is a path on this machine; it is read instead of the Hub model of the same name."
        )
    if ref.revision != constants.DEFAULT_REVISION:
        notes.append(Otherwise("--revision has no effect on local files."))
    if ref.quant and found.files == found.weight_files:
        notes.append(Otherwise(f"--quant {ref.quant} has no effect: {ref.model_id} is a single model."))
    return replace(found, notes=(*found.notes, *notes)) if notes else found


def _from_hub(ref: ModelRef, access: Access, reach: Reach, agrees: Agrees | None) -> Checkpoint:
    """The checkpoint from the Hub, or from the cache if the Hub confirms that its commit is current."""
    known = _opened(cache.load(ref), agrees) if _keeps(access) else None
    if known is not None and known.commit == ref.revision:
        return known  # commits are immutable
    if fault := endpoint_fault():
        raise ConnectionSettingsError(ref.model_id, fault)
    try:  # the client costs a tenth of a second to import, and runs without a network do not need it
        from hfmem.fetcher import hub
        from hfmem.fetcher.http import client_for
    except Exception as error:  # the client parses the environment on import
        reason = f"the HTTP client cannot be loaded: {type(error).__name__}"
        raise ConnectionSettingsError(ref.model_id, reason) from error
    client = client_for(
        ref.model_id,
        access.token,
        patient=lambda: _stored(ref, access) is None,
        reach=reach,
        login=access.mine,
    )
    info = hub.read_info(client, ref) if known is not None else None
    if info is not None and info.commit is not None:
        current = known is not None and known.commit == info.commit
        kept = known if current else _opened(cache.load(ref, info.commit), agrees)
        if kept is not None:
            cache.point(ref, info.commit)
            return kept
    found = hub.read(client, ref, info, agrees)
    if found.gated:
        return _gated(found, access, authenticated="authorization" in client.headers)
    if _keeps(access):
        cache.save(found)
    return found


def _opened(kept: Checkpoint | None, agrees: Agrees | None) -> Checkpoint | None:
    """A cached checkpoint; None if the headers of its files are needed, and were not read."""
    if kept is None or not kept.agreed:
        return kept
    return kept if agrees is not None and agrees(kept) else None


def fetch_listed(
    ref: ModelRef, listed: Info, access: Access, reach: Reach, base: Callable[[ModelRef], Checkpoint]
) -> Checkpoint:
    """The checkpoint of a repository on which a listing of the Hub has told enough; `base` reads the model that an
    adapter names. It is not kept: a listing lacks the sizes of files.

    Raises:
        HfmemError: it cannot be read.
    """
    from hfmem.fetcher import hub  # only for runs with a network
    from hfmem.fetcher.http import client_for

    if _keeps(access) and listed.commit and (kept := cache.load(ref, listed.commit)) is not None:
        return with_base(kept, base)
    client = client_for(ref.model_id, access.token, patient=lambda: True, reach=reach, login=access.mine)
    found = hub.read(client, ref, listed)
    if found.gated:
        return _gated(found, access, authenticated="authorization" in client.headers)
    return with_base(found, base)


def _keeps(access: Access) -> bool:
    """Whether answers are kept in, and taken from, this machine's cache."""
    return access.use_cache and access.mine


def _stored(ref: ModelRef, access: Access) -> Checkpoint | None:
    """The checkpoint from local sources: the cache, a downloaded snapshot, the catalog."""
    if not access.mine:
        return _catalogued(ref)
    kept = cache.load(ref) if access.use_cache else None
    return kept or local.snapshot(ref) or _catalogued(ref)


def _catalogued(ref: ModelRef) -> Checkpoint | None:
    """The catalog's checkpoint, which has no list of files to pick one of: of one by whose name a quantisation is told,
    that."""
    from hfmem.fetcher import catalog  # for what neither the Hub nor the cache answers

    if not ref.picked:
        return catalog.find(ref)
    quant = ref.quant or quant_of(ref.file)
    return catalog.find(replace(ref, file="", picked=False, quant=quant))


def _elsewhere(ref: ModelRef, access: Access, error: HfmemError) -> Checkpoint:
    """The stored checkpoint with a note on the Hub's error; raises the error if there is none, or if the error does not
    allow a stored answer."""
    why = next((words for kind, words in _REFUSALS if isinstance(error, kind)), None)
    found = _stored(ref, access) if why else None
    if found is None:
        if isinstance(error, (ModelNotFoundError, OfflineError, HubUnreachableError)):
            from hfmem.fetcher.nearby import near_ids, other_states, state  # for what is found nowhere

            error.asked, error.kept = state(ref), other_states(ref) if _keeps(access) else ()
            error.near = () if error.kept else near_ids(ref.model_id, here=access.mine)
        raise error
    place = {"cache": "the cache", "catalog": "the bundled catalog"}[found.source]
    note = f"{why}; this answer is from {place}."
    if isinstance(error, ConnectionSettingsError):
        note = Otherwise(f"{why} ({error.reason}); this answer is from {place}.")
        return replace(found, notes=(note, *found.notes))
    words = _WITHOUT.get(type(error), "")
    return replace(found, without_hub=words, notes=(Detail(note) if words else note, *found.notes))


_WITHOUT: Final[dict[type[HfmemError], str]] = {
    OfflineError: "offline",
    HubUnreachableError: "the Hub cannot be reached",
}
"""The errors that a phrase beside the source tells enough about."""


def _gated(public: Checkpoint, access: Access, *, authenticated: bool) -> Checkpoint:
    """The public part of a gated model, completed from local sources."""
    known = _stored(public.ref, access)
    if known is None:
        sized = select_for(public.files, public.ref).layout == "pipeline"
        if not public.totals and not sized:
            raise GatedModelError(public.ref.model_id, "its files need a licence", authenticated=authenticated)
        what = "sizes of files" if sized else "parameter totals"
        note = f"The model is gated: this answer is from the {what} that the Hub makes public."
        return replace(public, notes=(f"{note} {_way_in(public, access, authenticated)}", *public.notes))
    place = "the cache" if known.source == "cache" else "the bundled catalog"
    note = f"The model is gated: this answer is from {place}, not from its files."
    notes = [f"{note} {_way_in(public, access, authenticated)}", *known.notes]
    if public.totals and (difference := _difference(known.tensors, public.totals)):
        notes.append(difference)
    files = public.files or known.files
    return replace(
        known,
        files=files,
        weight_files=select_for(files, known.ref, known.pipeline).weights or known.weight_files,
        totals=public.totals,
        gated=True,
        notes=tuple(notes),
    )


def _way_in(public: Checkpoint, access: Access, authenticated: bool) -> str:
    """How to get access to the files."""
    login = "`hf auth login`" if access.mine else "ask with a token of your account"
    return f"For the files, accept its licence at {page(public.ref.model_id)}" + (
        " with this account." if authenticated else f", then {login}."
    )


def _difference(tensors: Sequence[TensorInfo], totals: object) -> str:
    """A sentence if the stored tensors and the Hub's public totals disagree, by dtype."""
    if not isinstance(totals, dict):
        return ""
    counted: dict[str, int] = {}
    for row in rows_of(tensors):
        dtype = row.tensor.dtype
        counted[dtype] = counted.get(dtype, 0) + row.tensor.elements * row.count
    if counted == totals:
        return ""
    ours = ", ".join(f"{dtype} {count:,}" for dtype, count in counted.items())
    theirs = ", ".join(f"{dtype} {count:,}" for dtype, count in totals.items())
    return f"The Hub's public totals ({theirs}) differ from the tensors counted here ({ours})."
