"""Parsing of model arguments: a Hub id, a path, or a pasted URL, with an optional revision and quantisation."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from huggingface_hub import constants

from hfmem.fetcher.values import ModelRef
from hfmem.refusals.options import QuantisationError

__all__ = ["as_read", "is_model_id", "is_path", "page", "reference", "why_no_id", "with_file", "with_quantisation"]

_ID: Final = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?", re.ASCII)
_LONGEST: Final = 200  # characters; the Hub allows 96 per part
_HOSTS: Final = ("huggingface.co", "www.huggingface.co", "hf.co")
_SCHEME: Final = "hf://"
_ADDRESS: Final = re.compile(r"(?:https?|hf)://", re.IGNORECASE)
_AT_REVISION: Final = ("tree", "blob", "resolve", "raw", "commit", "commits", "blame", "edit")
_PLACES: Final = (*_AT_REVISION, "discussions")
_KINDS: Final = {
    "datasets": "that of a data set",
    "spaces": "that of a Space",
    "collections": "that of a collection",
    "papers": "that of a paper",
    **dict.fromkeys(("api", "blog", "chat", "docs", "learn", "settings", "tasks"), "not that of a model"),
}
_LONG_REVISION: Final = re.compile(r"refs/(?:pr|convert|heads|tags)/[^/]+")
_UNSEEN: Final = " \t\r\n\ufeff\u200b\u200c\u200d\u2060\u00a0"  # invisible characters in pasted ids
_QUANT: Final = re.compile(r"[A-Za-z0-9][\w.\-]*", re.ASCII)


def is_model_id(text: str) -> bool:
    """Whether a word can be a repository id, `name` or `owner/name`, by the rules of
    `huggingface_hub.utils.validate_repo_id`, so that it is safe in URLs and file names."""
    return len(text) <= _LONGEST and ".." not in text and "--" not in text and _ID.fullmatch(text) is not None


def reference(text: str, revision: str = constants.DEFAULT_REVISION, *, paths: bool = True) -> ModelRef:
    """The model that a word stands for: an existing path takes precedence, then a Hub URL, then `ID@REVISION:QUANT`. A
    revision in the word takes precedence over `revision`. Other words are kept as they are. Without `paths`, the file
    system is not looked at, and the model is one of the Hub."""
    word = text if paths and _exists(text) else text.strip(_UNSEEN)
    found = replace(_of_word(word, paths=paths), asked=text)
    if not paths:
        found = replace(found, hub=True)
    if found.own and revision not in (found.revision, constants.DEFAULT_REVISION):
        return replace(found, beside=revision)
    return found.at(revision)


def with_quantisation(ref: ModelRef, word: str | None) -> ModelRef:
    """The reference with the quantisation of `--quant`, if given.

    Raises:
        QuantisationError: the reference itself names another one.
    """
    if word is None or ref.quant.lower() == word.lower():
        return ref
    if ref.quant:
        raise QuantisationError(word, ref.named)
    return replace(ref, quant=word)


def with_file(ref: ModelRef, name: str | None) -> ModelRef:
    """The reference with the weight file of `--file`, if given."""
    return replace(ref, file=name, picked=True) if name else ref


def as_read(ref: ModelRef, read: ModelRef) -> ModelRef:
    """A reference with what was read in place of a file that it picks (the catalog has no list of files)."""
    return ref if ref.picked == read.picked else replace(ref, file=read.file, picked=read.picked, quant=read.quant)


def _of_word(word: str, *, paths: bool = True) -> ModelRef:
    """The model that a word stands for, without `revision`."""
    if is_path(word) or (paths and _exists(word)):
        return ModelRef(model_id=word)
    if word.lower().startswith(_SCHEME):
        return _split(word[len(_SCHEME) :].removeprefix("models/")) or ModelRef(model_id=word)
    path = _hub_path(word)
    return (_split(word) if path is None else _of_address(path)) or ModelRef(model_id=word)


def _split(word: str) -> ModelRef | None:
    """Parse `ID@REVISION:QUANT`, with optional parts in either order; None without a valid id."""
    model, at, behind = word.rstrip("/").partition("@")
    parts = [part.rpartition(":") if ":" in part else (part, "", "") for part in (behind, model)]
    (rest, _, quant), (front, _, other) = parts
    if quant and _QUANT.fullmatch(quant):
        behind = rest
    elif other and _QUANT.fullmatch(other):
        model, quant = front, other
    else:
        quant = ""
    model = model.rstrip("/")
    if not is_model_id(model) or (at and not behind):
        return None
    found = ModelRef(model_id=model, quant=quant)
    return replace(found, revision=behind, own=True) if behind else found


def is_path(word: str) -> bool:
    """Whether a word can only be a path: `./x`, `/x`, `~/x`, or one with a backslash."""
    return word.startswith(("./", "../", "/", "~")) or word in (".", "..") or "\\" in word


def _exists(word: str) -> bool:
    try:
        return bool(word) and Path(word).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # not a valid path, or the home of an unknown user
        return False


def _hub_path(word: str) -> str | None:
    """The path of a URL of the Hub or of `HF_ENDPOINT`; None for other words."""
    endpoint = constants.ENDPOINT.partition("://")[2].rstrip("/")
    bare = _ADDRESS.sub("", word, count=1)
    for host in (endpoint, *_HOSTS):
        if bare.lower().startswith(f"{host.lower()}/"):
            return bare[len(host) :]
    return None


def _of_address(path: str) -> ModelRef | None:
    """Parse `/owner/name`, `/owner/name/tree/REV`, `/owner/name/blob/REV/FILE` and similar paths (`/name` for old
    models); None if it is not a model's URL."""
    parts = [unquote(part) for part in re.split(r"[?#]", path, maxsplit=1)[0].split("/") if part]
    parts = parts[1:] if parts[:2] == ["api", "models"] else parts
    parts = parts[1:] if parts[:1] == ["models"] else parts
    if not parts or parts[0] in _KINDS:
        return None
    long = 1 if len(parts) > 1 and parts[1] in _PLACES else 2
    found, rest = _split("/".join(parts[:long])), parts[long:]
    if found is not None and _exists(found.model_id):
        found = replace(found, hub=True)
    if found is None or len(rest) < 2 or rest[0] not in _AT_REVISION:
        return found
    tail = "/".join(rest[1:])
    named = _LONG_REVISION.match(tail)
    behind = named[0] if named else rest[1]  # a slash in a branch name is percent-encoded in URLs
    file = tail[len(behind) :].strip("/") if rest[0] in ("blob", "resolve", "raw") else ""
    return replace(found, revision=behind, own=True, file=file)


def why_no_id(word: str) -> str:
    """Why a word without a local file cannot be a model id; "" if it can."""
    path = _hub_path(word)
    if not word:
        return "the name is empty"
    if path is not None:
        return f"the address is {_KINDS.get(path.strip('/').partition('/')[0], 'not that of a model')}"
    if _ADDRESS.match(word):
        return f"the address is not one of {constants.ENDPOINT}"
    return "" if is_model_id(word) else "neither a model id (owner/name) nor a folder or file that can be read"


def page(model: str = "", *behind: str) -> str:
    """The URL of a model's page, or of a subpage, at `HF_ENDPOINT`."""
    return "/".join(part for part in (constants.ENDPOINT, model, *behind) if part)
