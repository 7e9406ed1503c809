"""Errors as sentences for a person, each with the next step. One row an error class; the first that fits is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hfmem import errors
from hfmem.errors import HfmemError
from hfmem.fetcher.identity import is_model_id, page

__all__ = ["Problem", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A failure as reports show it.

    Attributes:
        model: what was asked.
        code: the error class in snake case.
        message: what happened.
        hint: what to do next.
    """

    model: str
    code: str
    message: str
    hint: str

    def as_dict(self) -> dict[str, str]:
        """The form of `errors[]` in JSON."""
        return {"model": self.model, "error": self.code, "message": self.message, "hint": self.hint}


def explain(error: HfmemError) -> Problem:
    """The sentence and the next step."""
    _, message, hint = next(row for row in _ROWS if isinstance(error, row[0]))
    return Problem(model=error.model, code=error.code(), message=message(error), hint=hint(error))


_Words = Callable[[HfmemError], str]


def _because(text: str) -> _Words:
    """`text` with the model put in, and what was seen behind it."""

    def words(error: HfmemError) -> str:
        reason = f" ({error.reason})" if error.reason else ""
        return text.format(model=error.model or "the model") + reason + "."

    return words


def _said(text: str) -> _Words:
    return lambda error: text.format(model=error.model or "the model")


def _linked(text: str, *behind: str) -> _Words:
    """`text` with the address of the model's page, or of one behind it."""
    return lambda error: f"{text}: {page(error.model, *behind)}"


def _at_place(here: str, there: str) -> _Words:
    """`here` with the folder put in for a file on this machine, `there` for one of the Hub."""

    def words(error: HfmemError) -> str:
        place = error.place if isinstance(error, errors.InvalidFileError) else ""
        return here.format(place=place) if place else there

    return words


def _near(error: HfmemError) -> str:
    """A question for the ids that may be meant; "" where there is none."""
    return f"Did you mean {' or '.join(error.near)}? " if error.near else ""


def _after_near(text: str) -> _Words:
    return lambda error: _near(error) + text


def _not_found(error: HfmemError) -> str:
    if error.reason:
        return f"{error.model or 'The model'} was not found ({error.reason})."
    return f"{error.model or 'The model'} was not found: there is no such model at {page()}, or it is private."


def _not_found_hint(error: HfmemError) -> str:
    if isinstance(error, errors.ModelNotFoundError) and error.local:
        hint = "Name a folder with config.json or weights in it, or a weight file"
        hub = f"; for the Hub's model of that name, give its address: {page(error.model)}"
        return hint + (hub if is_model_id(error.model) else ".")
    if error.model and not is_model_id(error.model):
        return "Give the id of a model (owner/name), the address of its page, or a folder or weight file."
    private = "if it is private, `hf auth login` with an account that may read it."
    return f"{_near(error)}Check the spelling; {private}"


def _gated_hint(error: HfmemError) -> str:
    place = f"accept its licence on its page ({page(error.model)})"
    known = isinstance(error, errors.GatedModelError) and error.authenticated
    return f"With this account, {place}." if known else f"{place[0].upper()}{place[1:]}, then `hf auth login`."


def _rate_hint(error: HfmemError) -> str:
    seconds = error.seconds if isinstance(error, errors.RateLimitedError) else None
    when = f"in {seconds} seconds" if seconds is not None else "in some minutes"
    return f"Try again {when}; logging in with `hf auth login` raises the quota."


def _settings_hint(error: HfmemError) -> str:
    package = error.package if isinstance(error, errors.ConnectionSettingsError) else ""
    return f"`pip install {package}`, or unset the variable." if package else "Correct the variable, or unset it."


_ROWS: Final[tuple[tuple[type[HfmemError], _Words, _Words], ...]] = (
    (errors.GatedModelError, _said("{model} is gated."), _gated_hint),
    (errors.ModelNotFoundError, _not_found, _not_found_hint),
    (
        errors.RevisionNotFoundError,
        _because("{model} has no such revision"),
        _linked("The branches, tags and pull requests are on its page", "tree", "main"),
    ),
    (
        errors.DisabledModelError,
        _because("The Hub has switched {model} off"),
        _linked("Its page may tell why"),
    ),
    (
        errors.InvalidTokenError,
        _because("The Hub does not know the token that was sent"),
        _said("`hf auth login` with a new one, or unset HF_TOKEN."),
    ),
    (
        errors.AccessDeniedError,
        _because("The Hub refuses access to {model}"),
        lambda error: f"Check the token's permissions: {page('', 'settings', 'tokens')}",  # noqa: ARG005 - one signature
    ),
    (errors.RateLimitedError, _said("The Hub's request quota is used up."), _rate_hint),
    (
        errors.OfflineError,
        _said("Offline mode is on, and {model} is in neither the cache nor the bundled catalog."),
        _after_near("Run once without --offline (and without HF_HUB_OFFLINE) to fill the cache."),
    ),
    (
        errors.ConnectionSettingsError,
        _because("The Hub cannot be asked from here, and {model} is in neither the cache nor the bundled catalog"),
        _settings_hint,
    ),
    (
        errors.HubUnreachableError,
        _because("The Hub cannot be reached, and {model} is in neither the cache nor the bundled catalog"),
        _after_near("Check the network, a proxy (HTTPS_PROXY), or HF_ENDPOINT if a mirror is used."),
    ),
    (
        errors.UnexpectedAnswerError,
        _because("The server does not answer as the Hub does"),
        _said("Check HF_ENDPOINT, and whether a proxy or a log-in page of the network is in between."),
    ),
    (
        errors.InvalidConfigError,
        _because("The configuration of {model} cannot be read"),
        _at_place("Correct the file in {place}.", "The file is broken at its source; try another --revision."),
    ),
    (
        errors.InvalidFileError,
        _because("A file of {model} cannot be what its name says"),
        _at_place(
            "Put a whole file into {place}.",
            "The file is broken at its source or cut on its way; try again, or another --revision.",
        ),
    ),
    (
        errors.NoWeightsError,
        _because("Nothing tells how large {model} is"),
        _linked("Its page lists the files", "tree", "main"),
    ),
    (
        errors.UntraceableError,
        _because("{model} cannot be traced"),
        _said("Without --trace there is the estimate."),
    ),
    (errors.InvalidScenarioError, lambda error: f"{error.reason}.", _said("`hfmem --help-all` lists the options.")),
    (
        errors.UnforeseenError,
        _because("{model} holds something this version does not expect"),
        _said("Please report it with the model's id; the other models are not affected."),
    ),
    (HfmemError, _because("{model} failed"), _said("Try again.")),
)
