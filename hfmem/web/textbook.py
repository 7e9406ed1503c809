"""The textbook's calculator beside the exact one: the formulas of the article with this model's numbers, and what
really happens instead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Final

from hfmem.estimator import textbook
from hfmem.estimator.article import ALPHA_BETA
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.textbook import GRADIENT_BYTES, TEXTBOOK_OPTIMIZERS, TEXTBOOK_PRECISIONS
from hfmem.estimator.values import Estimate, Group
from hfmem.report.html.bars import key
from hfmem.report.html.tags import element, table, text
from hfmem.report.values import GROUP_NAMES, Report
from hfmem.units import format_bytes

__all__ = ["beside"]

_GROUPS: Final[tuple[Group, ...]] = ("weights", "kv_cache", "activations", "gradients", "optimizer")


def beside(report: Report, unit: str, ident: str | None = None) -> str:
    """The section: a row for each part, with the article's arithmetic, the exact figure, and why they differ.

    Args:
        report: the exact answer.
        unit: `GiB` or `GB`.
        ident: its id, by which an address leads to it; None where there are several.
    """
    if len(report.models) > 1:
        return ""
    body = [*_comparison(report, unit), *_tables()]
    return element(
        "details",
        element("summary", "The textbook's calculator beside the exact one"),
        *body,
        class_="textbook",
        id=ident,
    )


def _comparison(report: Report, unit: str) -> Iterator[str]:
    scenario = report.scenario
    if scenario.method == "textbook":
        yield element("p", "The answer above is the textbook's. With the method “exact” it stands beside what happens.")
        return
    if scenario.dtype not in TEXTBOOK_PRECISIONS:
        stored = scenario.dtype or "weights as GGUF files store them"
        yield element("p", text(f"The textbook has no precision for {stored}."))
        return
    yield element(
        "p",
        "The article this project began with adds three parts: the model, the KV cache and the activations; for "
        "training, optimizer states and gradients. Here are its formulas with this model's numbers, and what an "
        "implementation really takes.",
    )
    book = _book(report, scenario)
    rows = [_row(group, report.estimate, book, report, unit) for group in _GROUPS if _told(group, report, book)]
    rows.append(
        [
            element("b", "total"),
            _size(book.known_total, unit),
            "",
            _size(report.estimate.known_total, unit),
            _all(report),
        ]
    )
    yield table(map(text, ("", "textbook", "its formula", "exact", "what really happens")), rows, right=(1, 3))
    yield element("ul", *(element("li", text(note)) for note in book.notes))


def _book(report: Report, scenario: Scenario) -> Estimate:
    kind = "sgd" if (scenario.optimizer or "").startswith("sgd") else "adam"
    return textbook.estimate(report.model, replace(scenario, optimizer=kind))


def _told(group: Group, report: Report, book: Estimate) -> bool:
    return bool(book.group(group) or report.estimate.group(group))


def _row(group: Group, exact: Estimate, book: Estimate, report: Report, unit: str) -> list[str]:
    how = "; ".join(term.how for term in book.terms if term.group == group) or "not counted"
    return [
        key(group) + text(GROUP_NAMES[group]),
        _size(book.group(group), unit),
        element("div", text(how), class_="how"),
        _size(exact.group(group), unit),
        element("div", text(_WHY[group](report)), class_="how"),
    ]


def _size(nbytes: int | None, unit: str) -> str:
    return text("unknown" if nbytes is None else format_bytes(nbytes, unit))


def _weights(report: Report) -> str:
    if report.scenario.train not in (None, "full"):
        return "the base model as it is held while adapters train, and the adapters"
    return "every tensor that is loaded, in the format it is held in; buffers, packed scales and copies count"


def _cache(report: Report) -> str:
    if report.scenario.train:
        return "training keeps no cache: all tokens are there at once"
    architecture = report.architecture
    heads, kept, width = architecture.attention_heads, architecture.kv_heads, architecture.head_dim
    words = []
    if heads and kept and kept < heads:
        words.append(f"{kept} key/value heads are kept, not {heads}: grouped-query attention")
    if heads and width and architecture.hidden_size and heads * width != architecture.hidden_size:
        words.append(
            f"a head has {width} numbers, so that {heads} are not the hidden size of {architecture.hidden_size}"
        )
    others = [kind for kind in architecture.layer_kinds if kind != "full_attention"]
    if others:
        words.append(f"layers of {', '.join(kind.replace('_', ' ') for kind in others)} keep less than every token")
    return "; ".join(words) or "the same here: every layer keeps every token's keys and values, in the cache's format"


def _activations(report: Report) -> str:
    if report.scenario.train:
        return (
            f"each of the {report.architecture.depth or 'model’s'} layers keeps what its backward pass needs, and the "
            "logits and the loss are as long as the vocabulary: measured on the real class"
        )
    return "what is alive at the peak of one pass, through one layer or the logits, not a sum over the whole input"


def _gradients(report: Report) -> str:
    if report.scenario.train != "full":
        return "of the adapters only"
    return "of the precision of the weights, not always 4 B; they may be freed before the optimizer's peak"


def _optimizer(report: Report) -> str:
    if report.scenario.train != "full":
        return "of the adapters only"
    return "states in the precision that this optimizer keeps them in, with its temporary copies apart"


_WHY: Final = {
    "weights": _weights,
    "kv_cache": _cache,
    "activations": _activations,
    "gradients": _gradients,
    "optimizer": _optimizer,
}


def _all(report: Report) -> str:
    apart = "the largest phase of a step, not the sum of all parts" if report.estimate.phases else "at its peak"
    others = ("overhead", "master_weights", "temporary")
    named = [GROUP_NAMES[group] for group in others if report.estimate.group(group)]  # type: ignore[index, arg-type]
    more = f"; with {', '.join(named)}, which the textbook leaves out" if named else ""
    return element("div", text(apart + more), class_="how")


def _tables() -> Iterator[str]:
    """The formulas and tables of the article."""
    yield element("h3", "Its formulas")
    formulas = (
        "model = parameters × bytes per parameter",
        "KV cache = 2 × batch × tokens × bytes × layers × hidden size",
        "activations = alpha × batch × tokens × hidden size + beta × batch × heads × tokens²",
        "to run: model + KV cache + activations",
        "to train: the same + optimizer states + gradients",
        "rule of thumb: model to run, 4 to 6 times that to train",
    )
    yield element("ul", *(element("li", element("code", text(formula))) for formula in formulas))
    yield element("h3", "Its tables")
    yield table(("precision", "bytes"), ([text(name), text(_number(size))] for name, size in _precisions()), right=(1,))
    yield table(
        ("attention", "alpha", "beta"),
        ([text(name), text(alpha), text(beta)] for name, (alpha, beta) in ALPHA_BETA.items()),
        right=(1, 2),
    )
    training = [
        *((f"{name} states", size) for name, size in TEXTBOOK_OPTIMIZERS.items()),
        ("gradients", GRADIENT_BYTES),
    ]
    yield table(("training", "bytes a parameter"), ([text(name), text(size)] for name, size in training), right=(1,))


def _precisions() -> Iterator[tuple[str, Fraction]]:
    yield from TEXTBOOK_PRECISIONS.items()


def _number(size: Fraction) -> str:
    return f"{float(size):g}"
