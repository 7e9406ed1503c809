"""The form of the page, made from the controls: it works without a script, as addresses are all it makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from hfmem.fetcher.catalog import model_ids
from hfmem.report.html.tags import element, text
from hfmem.units import UNITS
from hfmem.web.controls import Control, by_use, controls, known_words, panels, titles
from hfmem.web.question import MOST_MODELS, MOST_VALUES, Question
from hfmem.web.service import TOKEN_PANEL

__all__ = ["form"]

_EXAMPLE: Final = "owner/name, or the address of its page"


def form(question: Question) -> str:
    """The form with a question filled in."""
    given = question.given
    every = controls()
    first = [control for control in every if control.common]
    rest = [control for control in every if not control.common]
    return element(
        "form",
        _models(question.models),
        element("div", *(_control(control, given) for control in by_use(first)), _unit(question.unit), class_="grid"),
        *_folded(rest, given),
        _token(),
        element(
            "p",
            element("button", "Estimate", type="submit", class_="primary"),
            element("button", "Copy link", type="button", id="share"),
            element("button", "Start over", type="button", id="reset"),
            class_="buttons",
        ),
        *_lists(),
        id="ask",
        method="get",
        action="./",
        autocomplete="off",
    )


def _models(models: Sequence[str]) -> str:
    fields = [
        _void(
            "input",
            type="text",
            id="o-model" if not number else None,
            name="model",
            value=value,
            list="list-model",
            placeholder=_EXAMPLE,
            aria_label="Model",
            maxlength=200,
            spellcheck="false",
            autocapitalize="off",
        )
        for number, value in enumerate(models or ("",))
    ]
    return element(
        "fieldset",
        element("legend", "Model"),
        element("div", *fields, class_="several", data_name="model", data_most=MOST_MODELS),
        element("button", "Compare with another", type="button", class_="more", data_for="model"),
        class_="models",
    )


def _control(control: Control, given: Mapping[str, tuple[str, ...]]) -> str:
    """A control with its label; `data-` tells the script when it applies."""
    values = given.get(control.name, ())
    ident = f"o-{control.name}"
    drawn = _DRAWN[control.kind](control, ident, values)
    label = element("label", text(control.label), for_=ident, title=f"{control.flag}: {control.help}")
    inner = [drawn, label] if control.kind == "switch" else [label, drawn]
    return element(
        "div",
        *inner,
        element("small", text(control.help), id=f"{ident}-help"),
        class_=f"control {control.kind}",
        data_flag=control.flag,
        data_engines=" ".join(control.engines) or None,
        data_modes=" ".join(control.modes) or None,
        data_methods=" ".join(control.methods) or None,
        data_train=" ".join(control.train) or None,
    )


def _choice(control: Control, ident: str, values: tuple[str, ...]) -> str:
    chosen = values[-1] if values else ""
    named = titles() if control.name == "runtime" else {}
    default = f"default: {control.shown}" if control.shown else "none"
    options = [("", default), *((word, named.get(word, word)) for word in control.choices)]
    return element(
        "select",
        *(
            element("option", text(words), value=word, selected="selected" if word == chosen else None)
            for word, words in options
        ),
        id=ident,
        name=control.name,
        aria_describedby=f"{ident}-help",
    )


def _answer(control: Control, ident: str, values: tuple[str, ...]) -> str:
    chosen = values[-1].lower() if values else ""
    options = (("", f"default: {control.shown}" if control.shown else "default"), ("on", "yes"), ("off", "no"))
    return element(
        "select",
        *(
            element("option", text(words), value=word, selected="selected" if word == chosen else None)
            for word, words in options
        ),
        id=ident,
        name=control.name,
        aria_describedby=f"{ident}-help",
    )


def _switch(control: Control, ident: str, values: tuple[str, ...]) -> str:
    checked = bool(values) and values[-1].lower() in ("on", "true", "yes", "1")
    return _void(
        "input",
        type="checkbox",
        id=ident,
        name=control.name,
        value="on",
        checked="checked" if checked else None,
        aria_describedby=f"{ident}-help",
    )


def _text(control: Control, ident: str, values: tuple[str, ...]) -> str:
    number = control.kind == "number"
    return _void(
        "input",
        type="text",
        id=ident,
        name=control.name,
        value=", ".join(values),
        placeholder=control.shown,
        inputmode="text" if not number else "numeric",
        list=f"list-{control.name}" if control.name in known_words() else None,
        maxlength=200,
        spellcheck="false",
        autocapitalize="off",
        aria_describedby=f"{ident}-help",
    )


def _list(control: Control, ident: str, values: tuple[str, ...]) -> str:
    listed = f"list-{control.name}" if control.name in known_words() else None
    fields = [
        _void(
            "input",
            type="text",
            id=ident if not number else None,
            name=control.name,
            value=value,
            list=listed,
            aria_label=control.label,
            maxlength=200,
            spellcheck="false",
            autocapitalize="off",
            aria_describedby=f"{ident}-help",
        )
        for number, value in enumerate(values or ("",))
    ]
    more = element("button", "Add another", type="button", class_="more", data_for=control.name)
    return element("div", *fields, class_="several", data_name=control.name, data_most=MOST_VALUES) + more


_DRAWN: Final = {
    "choice": _choice,
    "answer": _answer,
    "switch": _switch,
    "number": _text,
    "text": _text,
    "list": _list,
}


def _void(tag: str, /, **attributes: str | int | None) -> str:
    """An element without content."""
    return element(tag, **attributes).removesuffix(f"</{tag}>")


def _unit(unit: str) -> str:
    options = (
        element(
            "option", text(word), value=word if word != "GiB" else "", selected="selected" if word == unit else None
        )
        for word in UNITS
    )
    return element(
        "div",
        element("label", "Unit", for_="o-unit"),
        element("select", *options, id="o-unit", name="unit"),
        element("small", "GiB is 2^30 bytes, GB is 10^9"),
        class_="control choice",
        data_flag="--unit",
    )


def _folded(rest: Sequence[Control], given: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """The other options, folded by heading; a heading with a value in it is open."""
    for panel, inner in panels(rest):
        asked = any(control.name in given for control in inner)
        drawn = element("div", *(_control(control, given) for control in inner), class_="grid")
        title = element("summary", text(f"More: {panel}"))
        yield element("details", title, drawn, class_="panel", open="open" if asked else None)


def _token() -> str:
    """A field for a token: it has no name, so that it is in no address."""
    return element(
        "details",
        element("summary", text(TOKEN_PANEL)),
        element("label", "Hub token of your account", for_="token"),
        _void("input", type="password", id="token", autocomplete="off", spellcheck="false", maxlength=200),
        element(
            "small",
            "It is sent with your question only, to this page and by it to the Hub; it is in no link, and "
            "neither stored nor logged.",
        ),
        class_="panel",
    )


def _lists() -> Iterator[str]:
    for name, words in {"model": model_ids(), **known_words()}.items():
        yield element("datalist", *(_void("option", value=word) for word in words), id=f"list-{name}")
