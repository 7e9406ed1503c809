"""An answer as HTML: the fragments of its reports, with curves, the textbook, and the same as a command and as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hfmem.advice.curves import Line, curve
from hfmem.errors import HfmemError
from hfmem.fetcher.identity import page
from hfmem.report.errors import Problem, sizeless
from hfmem.report.html.fragments import fragment
from hfmem.report.html.lists import comparison
from hfmem.report.html.tags import element, text
from hfmem.report.sentences import memory_words, sentence
from hfmem.report.values import Report
from hfmem.scenario.options import Options
from hfmem.web.plots import plot
from hfmem.web.service import Answer
from hfmem.web.textbook import beside

__all__ = ["answer_html", "told"]


def answer_html(answer: Answer) -> str:
    """All of an answer; an invitation where nothing was asked."""
    if not answer.question.models and not answer.problems:
        return element(
            "p", "Type or paste the id of a model, such as ", element("code", "meta-llama/Llama-2-7b-hf"), "."
        )
    several = len(answer.reports) + len(answer.problems) > 1
    body = [
        *_problems([*answer.problems, *sizeless(answer.reports)]),
        *(_several(answer) if several and answer.known else ()),
        *([] if several else [_whole(report, answer) for report in answer.known]),
        *_same(answer),
    ]
    runtimes = dict.fromkeys(report.scenario.runtime for report in answer.known)
    return element("div", *body, data_told=told(answer), data_runtimes=" ".join(runtimes))


def told(answer: Answer) -> str:
    """The answer in a sentence, for who does not see it."""
    said = [f"{report.name}: {_said(report, answer.question.unit)}" for report in answer.known]
    said += [problem.message for problem in answer.problems]
    return " ".join(said)


def _said(report: Report, unit: str) -> str:
    words = " ".join(sentence(fit, unit) for fit in report.fits)
    return words or f"needs {memory_words(report, unit)}."


def _problems(problems: list[Problem]) -> Iterator[str]:
    for problem in problems:
        yield element(
            "div",
            element("p", text(problem.message), class_="said"),
            element("p", _linked(problem.hint)) if problem.hint else "",
            class_="problem",
            role="alert",
            data_code=problem.code,
        )


def _linked(words: str) -> str:
    """Words, in which addresses of the Hub are links."""
    parts = re.split(rf"({re.escape(page('').rstrip('/'))}/[\w./-]*[\w-])", words)
    return "".join(
        element("a", text(part), href=part, target="_blank", rel="noopener") if number % 2 else text(part)
        for number, part in enumerate(parts)
    )


def _several(answer: Answer) -> Iterator[str]:
    """The models side by side, then each by itself."""
    yield element("div", comparison(answer.known, (), answer.question.unit, style=False), class_="side")
    for report in answer.known:
        yield element(
            "details", element("summary", text(report.name)), _whole(report, answer, alone=False), class_="model"
        )


def _whole(report: Report, answer: Answer, *, alone: bool = True) -> str:
    unit = answer.question.unit
    return element(
        "article",
        fragment(report, unit, style=False),
        *(_curves(report, answer.options, unit) if answer.options is not None else ()),
        element("div", beside(report, unit, ident="textbook" if alone else None), class_="hfmem"),
    )


def _curves(report: Report, options: Options, unit: str) -> Iterator[str]:
    if len(report.models) > 1:
        return
    lines = [Line(accelerator=fit.gpu, usable=fit.usable) for fit in report.fits if fit.usable > 0]
    found = []
    for over in ("seq", "batch"):
        try:
            drawn = curve(report.model, options, over, lines)
        except HfmemError:  # a split that the engine refuses: the answer says so
            continue
        found += [plot(drawn, unit)] if drawn is not None else []
    yield element("section", *found, class_="hfmem plots", aria_label=f"Curves of {report.name}")


def _same(answer: Answer) -> Iterator[str]:
    """The same question elsewhere."""
    if not answer.reports:
        return
    address = answer.question.address()
    yield element(
        "section",
        element("h3", "The same elsewhere"),
        element("pre", element("code", text(answer.command()))),
        element(
            "details",
            element("summary", "JSON"),
            element("p", element("a", "open it alone", href=f"json?{address}", target="_blank", rel="noopener")),
            element("pre", element("code", ""), class_="json"),
            data_json=f"json?{address}",
        ),
        class_="hfmem same",
    )
