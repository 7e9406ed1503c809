"""Errors as sentences for a person, each with the next step. One row an error class; the first that fits is used. What
is wrong with what was asked is in the words of `hfmem.report.refusals`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hfmem import errors
from hfmem.errors import HfmemError
from hfmem.fetcher.identity import is_model_id, page

if TYPE_CHECKING:
    from hfmem.report.values import Report

__all__ = ["Problem", "explain", "sizeless"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A failure as reports show it.

    Attributes:
        model: what was asked.
        code: the error class in snake case.
        message: what happened.
        hint: what to do next.
        asked: the model with what was asked behind its id; "" where nothing was.
        label: what a list calls it, where the model alone does not tell its rows apart; "" where it does.
    """

    model: str
    code: str
    message: str
    hint: str
    asked: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        """What it is called in lists."""
        return self.label or self.model

    def as_dict(self) -> dict[str, str]:
        """The form of `errors[]` in JSON."""
        return {"model": self.model, "error": self.code, "message": self.message, "hint": self.hint}


def explain(error: HfmemError) -> Problem:
    """The sentence and the next step."""
    _, message, hint = next(row for row in _ROWS if isinstance(error, row[0]))
    return Problem(model=error.model, code=error.code(), message=message(error), hint=hint(error), asked=error.asked)


def sizeless(reports: Iterable[Report]) -> list[Problem]:
    """The failures of reports whose size is unknown: what is known of such a model is shown, but does not count as an
    answer."""
    return [explain(_no_weights(report)) for report in reports if report.estimate.known_total is None]


def _no_weights(report: Report) -> errors.NoWeightsError:
    ref = report.checkpoint.ref
    error = errors.NoWeightsError(
        ref.model_id,
        next((reason for group, reason in report.estimate.unknown if group == "weights"), ""),
        offered=report.model.offered,
        dtype=report.parameters is not None and report.scenario.compute_dtype is None,
        local=report.checkpoint.source == "local",
    )
    error.asked = ref.named
    return error


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
    """A question for the ids that may be meant, or what there is of the one that is; "" where there is none."""
    if error.kept:
        return f"Use {error.kept[0]}, which is cached. "
    return f"Did you mean {' or '.join(error.near)}? " if error.near else ""


def _after_near(text: str) -> _Words:
    return lambda error: _ollama(error) + _near(error) + text


def _not_found(error: HfmemError) -> str:
    if error.reason:
        return f"{error.model or 'The model'} was not found ({error.reason})."
    return f"{error.model or 'The model'} was not found: there is no such model at {page()}, or it is private."


def _ollama(error: HfmemError) -> str:
    """A hint for a name of Ollama's library, such as `llama3.2:3b`; "" for other names."""
    name, _, tag = error.asked.partition(":")
    if not tag or "/" in name or "@" in name:
        return ""
    return (
        f"If {error.asked} is from Ollama's own library: that library cannot be queried; use the Hub repository with "
        "its GGUF files, such as hf.co/OWNER/NAME-GGUF:Q4_K_M. "
    )


def _not_found_hint(error: HfmemError) -> str:
    if isinstance(error, errors.ModelNotFoundError) and error.local:
        hint = "Name a folder with config.json or weights in it, or a weight file"
        hub = f"; for the Hub's model of that name, use its address: {page(error.model)}"
        return hint + (hub if is_model_id(error.model) else ".")
    if not is_model_id(error.model):
        if all(map(is_model_id, each := error.model.split(","))) and len(each) > 1:
            return f"For several models, leave a space between them: {' '.join(each)}."
        return "Use the id of a model (owner/name), the address of its page, or a folder or weight file."
    private = "if it is private, `hf auth login` with an account that may read it."
    if told := _ollama(error):
        return told.rstrip()
    return f"{_near(error)}Check the spelling; {private}"


def _gated_hint(error: HfmemError) -> str:
    place = f"accept its licence on its page ({page(error.model)})"
    known = isinstance(error, errors.GatedModelError) and error.authenticated
    return f"With this account, {place}." if known else f"{place[0].upper()}{place[1:]}, then `hf auth login`."


def _rate_hint(error: HfmemError) -> str:
    seconds = error.seconds if isinstance(error, errors.RateLimitedError) else None
    when = f"in {seconds} second{'' if seconds == 1 else 's'}" if seconds is not None else "in a few minutes"
    return f"Try again {when}; logging in with `hf auth login` raises the quota."


def _size_hint(error: HfmemError) -> str:
    if isinstance(error, errors.NoWeightsError):
        if error.offered:
            return error.offered
        if error.dtype:
            return "Name its --dtype, as in --dtype bfloat16."
        if error.local:
            return "Add the weights to the folder, or name a folder or file that has them."
    return f"Its page lists the files: {page(error.model, 'tree', 'main')}"


def _settings_hint(error: HfmemError) -> str:
    package = error.package if isinstance(error, errors.ConnectionSettingsError) else ""
    return f"`pip install {package}`, or unset the variable." if package else "Correct it, or unset it."


def _nowhere(text: str, *, reason: bool = True) -> _Words:
    """`text`, and that the model is not on this machine either: not at all, or not in the state that was asked for."""

    def words(error: HfmemError) -> str:
        because = f" ({error.reason})" if reason and error.reason else ""
        model = error.model or "the model"
        if error.kept:
            return f"{text}, and the cache has {_listed(error.kept)}, not {error.asked or model}{because}."
        return f"{text}, and {model} is in neither the cache nor the bundled catalog{because}."

    return words


def _listed(words: tuple[str, ...]) -> str:
    """The first few words, and how many more there are."""
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


_SHOWN: Final = 3


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
        _linked("Its page may say why"),
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
        _nowhere("Offline mode is on", reason=False),
        _after_near("Run once without --offline (and without HF_HUB_OFFLINE) to fill the cache."),
    ),
    (
        errors.ConnectionSettingsError,
        _nowhere("The connection to the Hub cannot be set up"),
        _settings_hint,
    ),
    (
        errors.HubUnreachableError,
        _nowhere("The Hub cannot be reached"),
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
        _because("A file of {model} is invalid"),
        _at_place(
            "Replace the file in {place}.",
            "The file is broken at its source or cut on its way; try again, or another --revision.",
        ),
    ),
    (
        errors.NoWeightsError,
        _because("The size of {model} cannot be determined"),
        _size_hint,
    ),
    (
        errors.UntraceableError,
        _because("{model} cannot be traced"),
        _said("Run without --trace for the estimate."),
    ),
    (errors.InvalidScenarioError, lambda error: f"{error.reason}.", _said("`hfmem --help-all` lists the options.")),
    (
        errors.UnforeseenError,
        _because("{model} contains something that this version does not support"),
        _said("Please report it with the model's id; the other models are not affected."),
    ),
    (HfmemError, _because("{model} failed"), _said("Try again.")),
)
