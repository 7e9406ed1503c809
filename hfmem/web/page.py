"""The page as a document: the form, the answer to what its address asks, and where else the same is to be had."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from hfmem import __version__
from hfmem.report.html.style import STYLE
from hfmem.report.html.tags import element, text
from hfmem.web.answer import answer_html
from hfmem.web.form import form
from hfmem.web.service import Answer

__all__ = ["POLICY", "asset", "page"]

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co https://*.hf.space"
)
"""What the page may load: its own script and style. A name that got through as markup would not run."""

_SOURCE: Final = "https://pypi.org/project/hfmem/"


@cache
def asset(name: str) -> str:
    """The script or the style of the page."""
    found = files("hfmem.web").joinpath(name).read_text(encoding="utf-8")
    return f"{STYLE}\n{found}" if name.endswith(".css") else found


def page(answer: Answer) -> str:
    """The page with an answer."""
    models = answer.question.models
    title = f"Memory of {', '.join(models)}" if models else "hfmem: the memory that a model needs"
    head = (
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta name="description" content="{_TOLD}">',
        '<meta name="referrer" content="same-origin">',
        element("title", text(title)),
        f'<link rel="icon" href="{_ICON}">',
        f'<link rel="stylesheet" href="page.css?{__version__}">',
        f'<script src="page.js?{__version__}" defer></script>',
    )
    body = (
        '<a class="skip" href="#answer">To the answer</a>',
        element(
            "header",
            element("h1", '<a href="./">hfmem</a>'),
            element("p", _TOLD),
            element("button", "Light or dark", type="button", id="theme"),
        ),
        element(
            "main",
            element("section", form(answer.question), class_="asking", aria_label="Question"),
            element(
                "section",
                answer_html(answer),
                id="answer",
                tabindex="-1",
                aria_label="Answer",
            ),
        ),
        element("p", "", class_="unseen", role="status", id="told"),
        element("a", "", href="#answer", id="verdict", aria_hidden="true", tabindex="-1"),
        _foot(),
    )
    return f'<!doctype html>\n<html lang="en">\n{element("head", *head)}\n{element("body", *body)}\n</html>'


_TOLD: Final = "How much memory a Hugging Face model needs to run or to train, and where every byte comes from"
_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect y='5' width='9' "
    "height='6' fill='%230077bb'/%3E%3Crect x='9' y='5' width='4' height='6' fill='%23ee7733'/%3E%3Crect x='13' y='5' "
    "width='3' height='6' fill='%23999'/%3E%3C/svg%3E"
)


_PROMISE: Final = " · no question is stored; a token is neither stored nor logged"


def _foot() -> str:
    programs = element(
        "details",
        element("summary", "For programs and agents"),
        element(
            "p",
            "The same answers by ",
            element("a", "JSON", href="json?model=meta-llama/Llama-2-7b-hf&gpu=RTX+4090"),
            ", by the ",
            element("a", "API of this page", href="gradio_api/info"),
            " (",
            element("a", "OpenAPI", href="gradio_api/openapi.json"),
            "), and as a tool for agents:",
        ),
        element("pre", element("code", "", id="mcp")),
    )
    return element(
        "footer",
        programs,
        element(
            "p",
            f"hfmem {text(__version__)} · ",
            element("a", "install it", href=_SOURCE),
            _PROMISE,
        ),
        class_="hfmem",
    )
