"""From a visitor's question to reports and failures, in a visitor's words."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hfmem import errors
from hfmem.answers import report_each
from hfmem.errors import HfmemError, InvalidScenarioError
from hfmem.fetcher.identity import page, with_quantisation
from hfmem.mapper.bundle import Bundle
from hfmem.mapper.interpret import Model
from hfmem.report.errors import Problem, explain
from hfmem.report.formats import Style, render
from hfmem.report.values import Report
from hfmem.scenario.options import Options
from hfmem.web.controls import asked_here
from hfmem.web.models import Models
from hfmem.web.question import Question

__all__ = ["TOKEN_PANEL", "Answer", "Service", "problem_of"]

TOKEN_PANEL: Final = "A private or gated model"  # noqa: S105 - a heading
"""The heading of the field for a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered.

    Attributes:
        question: what was asked.
        options: the options; None where they are refused.
        reports: the reports, in the order of the models.
        problems: what failed.
    """

    question: Question
    options: Options | None = None
    reports: tuple[Report, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def known(self) -> tuple[Report, ...]:
        """The reports on models of a known size."""
        return tuple(report for report in self.reports if report.estimate.known_total is not None)

    def json(self) -> str:
        """The answer as the command line prints it with `--format json`."""
        return render("json", self.reports, self.problems, Style())

    def command(self) -> str:
        """The command line that answers the same."""
        flags = {option.name: option for option in asked_here()}
        words = ["hfmem", *self.question.models]
        for name, values in self.question.given.items():
            option = flags[name]
            if option.kind is bool:
                asked = self.options is not None and getattr(self.options, name)
                words += [option.flags[0]] if asked else [option.opposite] if option.opposite else []
            else:
                words += [word for value in values for word in (option.flags[0], value)]
        words += [] if self.question.unit == "GiB" else ["--unit", self.question.unit]
        return shlex.join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Answers of one page.

    Attributes:
        models: where its models are from.
    """

    models: Models = field(default_factory=Models)

    @property
    def private(self) -> bool:
        """Whether the page is its visitor's own."""
        return self.models.private

    def answer(self, question: Question, token: str | None = None) -> Answer:
        """The answer to a question.

        Args:
            question: the question.
            token: the visitor's own; it is used for this answer, and not kept.
        """
        try:
            options = question.options(private=self.private)
            refs = [with_quantisation(ref, options.quant) for ref in question.refs(private=self.private)]
        except InvalidScenarioError as error:
            return Answer(question=question, problems=(problem_of(error),))
        reports: list[Report] = []
        problems: list[Problem] = []
        for found in _each(self.models.get(refs, token), options):
            if isinstance(found, Report):
                reports.append(found)
            else:
                problems.append(problem_of(found))
        return Answer(question=question, options=options, reports=tuple(reports), problems=tuple(problems))


def _each(models: Sequence[Model | HfmemError], options: Options) -> Sequence[Report | HfmemError]:
    known: list[Model | Bundle] = [model for model in models if not isinstance(model, HfmemError)]
    made = iter(list(report_each(known, options)))
    return [model if isinstance(model, HfmemError) else next(made) for model in models]


def problem_of(error: HfmemError) -> Problem:
    """The sentence and the next step, for who has a page and no command line."""
    found = explain(error)
    told = next((hint for kind, hint in _HINTS if isinstance(error, kind)), None)
    return found if told is None else replace(found, hint=told(error))


def _gated(error: HfmemError) -> str:
    place = f"accept its licence on its page ({page(error.model)})"
    known = isinstance(error, errors.GatedModelError) and error.authenticated
    return (
        f"With this account, {place}."
        if known
        else f"{place[0].upper()}{place[1:]}, then give a token under “{TOKEN_PANEL}”."
    )


def _near(error: HfmemError) -> str:
    return f"Did you mean {' or '.join(error.near)}? " if error.near else ""


_IF_PRIVATE: Final = "if it is private, give a token of an account that may read it."
_Hint = Callable[[HfmemError], str]

_HINTS: Final[tuple[tuple[type[HfmemError], _Hint], ...]] = (
    (errors.GatedModelError, _gated),
    (errors.ModelNotFoundError, lambda error: f"{_near(error)}Check the spelling; {_IF_PRIVATE}"),
    (errors.InvalidTokenError, lambda _: f"Give another one: {page('', 'settings', 'tokens')}"),
    (errors.RateLimitedError, lambda _: "Try again in a few minutes, or give a token of your own."),
    (
        errors.OfflineError,
        lambda error: f"{_near(error)}This page runs without the Hub, and knows the models that it suggests.",
    ),
    (
        errors.HubUnreachableError,
        lambda error: f"{_near(error)}Try again later; models that the page suggests are known without the Hub.",
    ),
    (InvalidScenarioError, lambda _: ""),
)
