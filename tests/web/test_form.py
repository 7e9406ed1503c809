"""The form and the API are made from the table of options: what is added there is on the page."""

from __future__ import annotations

import inspect
import tomllib
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated

import pytest

from hfmem.engines.table import EngineRow, engines, registered
from hfmem.engines.transformers.options import TransformersOptions
from hfmem.options.option import Option, declared
from hfmem.options.panels import SIZE
from hfmem.scenario.asked import registered_options
from hfmem.scenario.options import options_type
from hfmem.web.api import endpoints
from hfmem.web.controls import controls, known_words, panels
from hfmem.web.form import form
from hfmem.web.models import Models
from hfmem.web.question import Question
from hfmem.web.service import Service


class Fields(HTMLParser):
    """The fields of a form: name and type, ids, what labels are for, and what is chosen."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []
        self.labelled: list[str] = []
        self.values: dict[str, list[str]] = {}
        self._select = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids += [given["id"]] if "id" in given else []
        self.labelled += [given["for"]] if tag == "label" else []
        if tag in ("input", "select") and "name" in given:
            self.names.append(given["name"])
        if tag == "input" and given.get("name") and given.get("value") and given.get("type") != "checkbox":
            self.values.setdefault(given["name"], []).append(given["value"])
        if tag == "input" and "checked" in given:
            self.values.setdefault(given["name"], []).append("on")
        if tag == "select":
            self._select = given["name"]
        if tag == "option" and "selected" in given and given.get("value"):
            self.values.setdefault(self._select, []).append(given["value"])


ASKED = [
    ("model", "a/b"),
    ("model", "c/d"),
    ("gpu", "T4"),
    ("gpu", "2x 'L4' <b>"),
    ("seq", "32k"),
    ("train", "lora"),
    ("gradient_checkpointing", "on"),
    ("lora_targets", "q_proj"),
    ("unit", "GB"),
]


def test_every_option_of_a_scenario_has_a_field_but_those_of_the_machine() -> None:
    names = {option.name for option in declared(options_type()) if not option.option.own}
    assert {*Fields(form(Question(models=()))).names} == {*names, "model", "unit"}
    kept = {option.name for option in declared(options_type()) if option.option.own}
    assert kept == {"trace", "override_tensor"}


def test_every_field_has_a_label_and_ids_are_unique() -> None:
    fields = Fields(form(Question.of(ASKED)))
    assert len(fields.ids) == len({*fields.ids})
    assert {*fields.labelled} <= {*fields.ids}
    drawn = {f"o-{control.name}" for control in controls()}
    assert drawn <= {*fields.labelled}


def test_the_form_holds_what_was_asked() -> None:
    question = Question.of(ASKED)
    fields = Fields(form(question))
    assert {name: tuple(values) for name, values in fields.values.items()} == {
        "model": question.models,
        "unit": ("GB",),
        **question.given,
    }
    assert "<b>" not in form(question)


def test_an_address_asks_the_same() -> None:
    from urllib.parse import parse_qsl

    question = Question.of(ASKED)
    assert Question.of(parse_qsl(question.address())) == question


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class Later:
    """Options of a later release."""

    replies: Annotated[int, Option(help="Answers per prompt", panel=SIZE, least=1, most=9, modes=("inference",))] = 1
    notes_file: Annotated[Path | None, Option(help="A file of the machine", panel=SIZE)] = None
    secret_pattern: Annotated[str | None, Option(help="May take any time", panel=SIZE, own=True)] = None


def test_options_added_later_follow() -> None:
    with registered_options(Later):
        (added,) = [control for control in controls() if control.name == "replies"]
        assert (added.kind, added.flag, added.modes) == ("number", "--replies", ("inference",))
        fields = Fields(form(Question(models=())))
        assert "replies" in fields.names
        assert not {"notes_file", "secret_pattern"} & {*fields.names}
        options = Question.of([("replies", "3")]).options()
        assert options.replies == 3  # type: ignore[attr-defined]
        estimate, *_ = endpoints(Service(), object)
        assert "replies: Answers per prompt." in (estimate.function.__doc__ or "")
        found = estimate.function("openai-community/gpt2", replies="99")
        assert "--replies is 99, expected 1 to 9" in found["errors"][0]["message"]
    assert "replies" not in Fields(form(Question(models=()))).names


def test_an_engine_added_later_follows() -> None:
    row = EngineRow(name="quipu", title="Quipu", options=TransformersOptions, home="nowhere")
    with registered(row):
        (runtime,) = [control for control in controls() if control.name == "runtime"]
        assert runtime.choices[-1] == "quipu"
        assert ">Quipu</option>" in form(Question(models=()))


def test_options_stand_under_their_headings() -> None:
    titles = [title for title, _ in panels(controls())]
    assert titles[0] == "Model"
    assert {row.title for row in engines()} - {"Ollama"} <= {*titles}


@pytest.mark.parametrize("name", ["gpu", "dtype", "kv_dtype", "optimizer", "precision", "stack"])
def test_suggested_words_are_taken(name: str) -> None:
    """Each on the accelerator, or in the training, that it belongs to."""
    around = {"gpu": (), "dtype": (), "kv_dtype": ()}.get(name, (("train", "full"),))
    words = known_words()[name]
    assert len(words) > 4
    service = _offline()
    for word in words[:: max(1, len(words) // 12)]:
        answer = service.answer(Question.of([("model", "openai-community/gpt2"), *around, (name, word)]))
        # a combination may be refused, a word that is suggested may not be unknown
        assert not any("is not" in problem.message for problem in answer.problems), word


def test_programs_see_the_options_with_their_meaning() -> None:
    functions = {endpoint.name: endpoint.function for endpoint in endpoints(Service(), object)}
    assert [*functions] == ["estimate", "compare", "accelerators", "models"]
    names = [*inspect.signature(functions["estimate"]).parameters]
    assert names[:3] == ["model", "gpu", "runtime"]
    assert sorted(names) == sorted(["model", *(control.name for control in controls()), "request"])
    lines = (functions["compare"].__doc__ or "").splitlines()
    told = {line.strip().partition(":")[0] for line in lines if line.startswith("    ")}
    assert {control.name for control in controls()} < told


def test_programs_get_the_document_of_the_command_line() -> None:
    functions = {endpoint.name: endpoint.function for endpoint in endpoints(_offline(), object)}
    found = functions["compare"](["openai-community/gpt2", "no/such"], gpu=["T4", "H100"], batch="2")
    assert (found["schema"], len(found["results"]), len(found["errors"])) == (1, 1, 1)
    assert [row["verdict"] for row in found["results"][0]["fit"]] == ["fits", "fits"]
    assert found["errors"][0]["hint"].startswith("This page runs without the Hub")
    wrong = functions["estimate"]("openai-community/gpt2", seq="much")
    assert wrong["errors"][0]["error"] == "invalid_scenario_error"
    assert any(row["name"] == "RTX 4090" and row["memory"] > 2**34 for row in functions["accelerators"]())
    assert functions["models"]("gpt2")[0] == "openai-community/gpt2"


def _offline() -> Service:
    return Service(models=Models(offline=True))


def test_the_space_asks_for_this_release_and_for_a_gradio_that_it_takes() -> None:
    from huggingface_hub import SpaceCard
    from packaging.requirements import Requirement

    from hfmem import __version__

    root = Path(__file__).parents[2]
    card = SpaceCard.load(root / "spaces/hfmem/README.md").data
    (asked,) = (root / "spaces/hfmem/requirements.txt").read_text(encoding="utf-8").split()
    assert asked == f"hfmem[web]=={__version__}"
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (gradio,) = map(Requirement, extras["web"])
    assert card.sdk == gradio.name
    assert gradio.specifier.contains(card.sdk_version)
    assert (root / "spaces/hfmem" / card.app_file).is_file()
    assert len(card.short_description) <= 60  # the Hub refuses longer ones
