"""The functions that the page offers to programs and agents: their parameters are the table's options."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any, Final

from hfmem.errors import InvalidScenarioError
from hfmem.options.option import Declared
from hfmem.report.result import SCHEMA
from hfmem.web.controls import asked_here, by_use, controls, titles
from hfmem.web.question import MOST_MODELS, Question
from hfmem.web.service import Answer, Service, problem_of

__all__ = ["Endpoint", "endpoints"]

_ABOUT: Final = (
    "Bytes are integers; null is unknown, 0 is none. `memory` is the breakdown by part, `fit` has a row for each "
    "accelerator (verdict, headroom, longest context, largest batch), `terms` the arithmetic of every part with its "
    "source, `help` what would help. Failures stand in `errors`, each with its next step."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A function of the API.

    Attributes:
        name: its name.
        function: the function, with a signature and a docstring for who reads it.
    """

    name: str
    function: Callable[..., Any]


def endpoints(service: Service, request: type) -> tuple[Endpoint, ...]:
    """The functions.

    Args:
        service: what answers.
        request: the class of requests, of which the server hands one over for its headers.
    """

    one = Parameter("model", Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
    several = one.replace(name="models", annotation=list[str])
    word = one.replace(name="search", default="")
    declarations = {option.name: option for option in asked_here()}
    asked = [declarations[control.name] for control in by_use(controls())]
    options = [_parameter(option) for option in asked]
    told = Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, annotation=request, default=None)
    helps = {option.name: _help(option) for option in asked}
    return (
        _endpoint("estimate", _one(service), [one, *options, told], {"model": _ID, **helps}),
        _endpoint("compare", _several(service), [several, *options, told], {"models": _IDS, **helps}),
        _endpoint("accelerators", _accelerators, [], {}, list),
        _endpoint("models", _search(service), [word], {"search": "A part of the id"}, list),
    )


_ID: Final = "Hub id (owner/name), or the address of its page; @REVISION and :QUANT may follow"
_IDS: Final = f"Up to {MOST_MODELS} Hub ids"

_Answers = Callable[[Mapping[str, Any]], Any]
"""A function of the values of an endpoint's parameters."""


def _one(service: Service) -> _Answers:
    return lambda values: _asked(service, [values["model"]], values)


def _several(service: Service) -> _Answers:
    return lambda values: _asked(service, values["models"], values)


def _search(service: Service) -> _Answers:
    return lambda values: list(service.models.suggested(str(values["search"])[:200]))


_ABOUTS: Final = {
    "estimate": "The memory that one Hugging Face model needs to run or to train, before anything is downloaded, and "
    f"whether it fits on accelerators. {_ABOUT}",
    "compare": f"The memory that several models need in one scenario. {_ABOUT}",
    "accelerators": "The accelerators that `gpu` knows, with their usable memory in bytes.",
    "models": "Ids of models that match a few characters: known ones first, then public ones of the Hub.",
}


def _endpoint(
    name: str, answers: _Answers, parameters: Sequence[Parameter], helps: Mapping[str, str], returned: type = dict
) -> Endpoint:
    """A function whose parameters are made here, so that whatever reads its signature sees the table's options."""
    signature = Signature(parameters, return_annotation=returned)

    def function(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return answers(bound.arguments)

    function.__name__ = function.__qualname__ = name
    lines = [f"    {each}: {words}" for each, words in helps.items()]
    function.__doc__ = "\n".join([_ABOUTS[name], "", "Args:", *lines]) if lines else _ABOUTS[name]
    function.__dict__["__signature__"] = signature
    function.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": returned}
    return Endpoint(name=name, function=function)


def _parameter(option: Declared) -> Parameter:
    """An option as a parameter of a type that any client can send; "" and [] leave it open."""
    kind, default = _TYPES.get(option.kind, (str, ""))
    if option.kind is bool and option.default is None:
        kind, default = str, ""
    if option.several and not option.option.words:
        kind, default = list[str], []
    return Parameter(option.name, Parameter.POSITIONAL_OR_KEYWORD, annotation=kind, default=default)


_TYPES: Final[dict[type, tuple[Any, Any]]] = {bool: (bool, False)}


def _help(option: Declared) -> str:
    named = titles() if option.name == "runtime" else {}
    words = [f"{word} ({named[word]})" if named.get(word, word) != word else word for word in option.choices]
    choices = f" One of: {', '.join(words)}." if words else ""
    default = f" Default: {option.option.shown}." if option.option.shown else ""
    return f"{option.option.help}.{choices}{default}".replace("\n", " ")


def _asked(service: Service, models: Sequence[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The answer as the command line's JSON document."""
    pairs = [("model", str(model)) for model in models]
    for option in asked_here():
        given = values.get(option.name)
        if given is True:
            pairs.append((option.name, "on"))
        elif isinstance(given, list | tuple):
            pairs += [(option.name, str(each)) for each in given]
        elif given not in (None, False, ""):
            pairs.append((option.name, str(given)))
    try:
        answer = service.answer(Question.of(pairs), token_of(values.get("request")))
    except InvalidScenarioError as error:
        answer = Answer(question=Question(models=()), problems=(problem_of(error),))
    document: dict[str, Any] = json.loads(answer.json())
    assert document["schema"] == SCHEMA  # noqa: S101 - a document of another schema is not ours to hand over
    return document


def token_of(request: Any) -> str | None:
    """The visitor's token in the headers of a request: a header of its own, as the Hub's `Authorization` opens private
    Spaces; None without one."""
    headers = getattr(request, "headers", None)
    found = str(headers.get("x-hub-token") or "").strip() if headers is not None else ""
    return found or None


def _accelerators(_: Mapping[str, Any]) -> list[dict[str, Any]]:
    from hfmem.hardware.table import accelerators

    return [
        {"name": row.name, "memory": row.memory, "vendor": row.vendor or None, "kind": row.kind, "source": row.source}
        for row in accelerators()
    ]
