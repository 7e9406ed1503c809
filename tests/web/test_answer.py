"""The answer on the page is that of the command line, drawn."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape

import pytest

import hfmem
from hfmem.advice.curves import Curve, Line, Over, curve
from hfmem.report.html.tags import text
from hfmem.scenario.options import options_type
from hfmem.units import format_bytes
from hfmem.web.answer import answer_html, told
from hfmem.web.models import Models
from hfmem.web.page import page
from hfmem.web.question import Question
from hfmem.web.service import Answer, Service
from tests.command import run

LLAMA = "meta-llama/Llama-2-7b-hf"
SERVICE = Service(models=Models(offline=True))

CASES = [
    {"model": [LLAMA]},
    {"model": [LLAMA], "gpu": ["RTX 4090", "T4"], "seq": ["2k"]},
    {"model": [LLAMA], "gpu": ["2x H100"], "runtime": ["vllm"], "kv_dtype": ["float8_e4m3fn"]},
    {"model": [LLAMA], "train": ["lora"], "gpu": ["RTX 4090"], "gradient_checkpointing": ["on"], "lora_rank": ["16"]},
    {"model": [LLAMA], "method": ["textbook"], "train": ["full"]},
    {"model": [LLAMA, "openai-community/gpt2", "no/such"], "gpu": ["T4"], "unit": ["GB"]},
    {"model": ["google-t5/t5-small"], "batch": ["8"]},
]


def ask(given: dict[str, list[str]]) -> Answer:
    return SERVICE.answer(Question.of([(name, value) for name, values in given.items() for value in values]))


@pytest.mark.parametrize("given", CASES, ids=lambda given: " ".join([*given][1:]) or "plain")
def test_the_command_beside_an_answer_gives_the_same(given: dict[str, list[str]], alone: dict[str, str]) -> None:
    answer = ask(given)
    words = shlex.split(answer.command())[1:]
    printed = json.loads(run(*words, "--offline", "--format", "json", env=alone).stdout)
    shown = json.loads(answer.json())
    assert shown["results"] == printed["results"]
    assert [error["message"] for error in shown["errors"]] == [error["message"] for error in printed["errors"]]


def test_the_page_says_what_decides() -> None:
    html = answer_html(ask(CASES[1]))
    (report,) = ask(CASES[1]).reports
    first, second = report.fits
    assert f"Fits on RTX 4090: {format_bytes(first.headroom or 0)} free, longest context 4,096" in html
    assert f"longest context {second.max_seq:,}" in html
    assert told(ask(CASES[1])).startswith(f"{LLAMA}: Fits on RTX 4090")
    assert all(text(term.how) in html for term in report.estimate.terms)


def test_several_models_stand_side_by_side_and_failures_before_them() -> None:
    html = answer_html(ask(CASES[5]))
    assert html.index("no/such") < html.index("<table")
    assert html.count("<article>") == 2
    assert "GB" in html


def test_a_launch_line_is_there_to_copy() -> None:
    html = answer_html(ask(CASES[2]))
    assert "vllm serve meta-llama/Llama-2-7b-hf" in html
    assert 'data-runtimes="vllm"' in html


def test_training_shows_the_phases_of_a_step() -> None:
    (report,) = ask(CASES[3]).reports
    html = answer_html(ask(CASES[3]))
    assert len(report.estimate.phases) == 3
    assert all(f"{phase.name}: {format_bytes(phase.total)}" in html for phase in report.estimate.phases)


HOSTILE = "<script>alert(1)</script>"


@pytest.mark.parametrize("name", ["model", "gpu", "dtype", "optimizer", "lora_targets", HOSTILE])
def test_markup_of_a_visitor_is_text(name: str) -> None:
    whole = page(SERVICE.answer(Question.of([("model", LLAMA), ("train", "lora"), (name, HOSTILE)])))
    assert HOSTILE not in whole
    assert name == HOSTILE or "&lt;script&gt;" in whole


def test_a_page_without_a_question_invites_one() -> None:
    whole = page(ask({}))
    assert "Type or paste the id of a model" in whole
    assert whole.count(' name="model"') == 1


def curves(**options: object) -> tuple[hfmem.Report, Curve, Curve]:
    model = hfmem.inspect(LLAMA, offline=True)
    report = hfmem.estimate(model, **options)
    lines = [Line(accelerator=fit.gpu, usable=fit.usable) for fit in report.fits]
    found = [curve(model, options_type()(**options), over, lines) for over in ("seq", "batch")]
    assert None not in found
    return report, *found  # type: ignore[return-value]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gpu": ("RTX 4090",), "seq": 1000, "batch": 3},
        {"gpu": ("H100",), "runtime": "vllm", "seq": 4000},
        {"train": "lora", "gpu": ("RTX 4090", "H100"), "seq": 512},
        {"gpu": ("2x T4",), "dtype": "int8"},
        {"method": "textbook"},
    ],
    ids=str,
)
def test_curves_go_through_what_the_report_says(options: dict[str, object]) -> None:
    report, *found = curves(**options)
    for each in found:
        (here,) = [point for point in each.points if point.at == each.at]
        assert here.total == report.estimate.total
        assert [line.usable for line in each.lines] == [fit.usable for fit in report.fits]
        totals = [point.total for point in each.points]
        assert totals == sorted(totals)


def test_a_curve_crosses_the_line_where_the_fit_says() -> None:
    report, context, batch = curves(gpu=("T4",))
    (fit,) = report.fits
    for each, most in ((context, fit.max_seq), (batch, fit.max_batch)):
        assert most is not None
        for point in each.points:
            assert (point.total <= fit.usable) == (point.at <= most)


@pytest.mark.parametrize("over", ["seq", "batch"])
def test_models_without_a_maximum_or_a_size_have_curves_too(over: Over) -> None:
    for name in ("tiiuae/falcon-mamba-7b", "google-t5/t5-small", "openai/whisper-tiny"):
        model = hfmem.inspect(name, offline=True)
        found = curve(model, options_type()(), over)
        assert found is None or len(found.points) >= 2


def test_the_textbook_stands_beside_with_its_own_numbers() -> None:
    given = {"model": ["mistralai/Mistral-7B-v0.1"], "seq": ["8k"], "batch": ["2"]}
    (report,) = ask(given).reports
    (book,) = ask({**given, "method": ["textbook"]}).reports
    html = answer_html(ask(given))
    section = html[html.index('id="textbook"') :]
    rows = [unescape(re.sub("<[^>]+>", "|", row)) for row in re.findall("<tr>(.*?)</tr>", section)]
    for group in ("weights", "kv_cache", "activations"):
        (row,) = [
            row
            for row in rows
            if row.startswith("|||" + group.replace("kv_cache", "KV cache"))
            or group.replace("kv_cache", "KV cache") in row.split("|")
        ]
        assert format_bytes(book.estimate.group(group) or 0) in row
        assert format_bytes(report.estimate.group(group) or 0) in row
    assert "8 key/value heads are kept, not 32: grouped-query attention" in section


def test_the_textbook_says_what_it_has_no_precision_for() -> None:
    html = answer_html(ask({"model": [LLAMA], "dtype": ["nf4"]}))
    assert "The textbook has no precision for" in html
