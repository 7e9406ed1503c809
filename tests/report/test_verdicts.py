"""Whether it fits is one word in every format, with the reason in the answer or beside it."""

from __future__ import annotations

import csv
import io
import json
import sys
from functools import cache
from typing import Any

import pytest

import hfmem
from hfmem.advice.values import VERDICTS
from hfmem.cli import app
from hfmem.hardware import detect
from hfmem.report.formats import FORMATS, Style, render
from hfmem.report.remarks import remarks
from hfmem.report.values import Report

QWEN, GPT, MIXTURE = "Qwen/Qwen3-8B", "openai-community/gpt2", "Qwen/Qwen3-30B-A3B"


@cache
def of(name: str, *gpu: str, **asked: object) -> Report:
    return hfmem.estimate(name, gpu=gpu, offline=True, **asked)


CASES: dict[str, tuple[str, tuple[str, str], dict[str, Any]]] = {
    "some recipes": ("unknown", (MIXTURE, "21.5GiB"), {"runtime": "vllm", "dtype": "nvfp4"}),
    "not modelled": ("unknown", ("albert/albert-base-v1", "H100"), {"seq": 512}),
    "memory": ("no", (QWEN, "T4"), {"runtime": "vllm"}),
    "memory of transformers": ("no", (QWEN, "T4"), {}),
    "context": ("refused", (GPT, "H100"), {"runtime": "vllm", "seq": 4096}),
    "context and memory": ("refused", (QWEN, "T4"), {"runtime": "vllm", "seq": 131072}),
    "reserve": ("refused", (QWEN, "H100"), {"runtime": "vllm", "reserve": 10}),
    "tight": ("tight", (QWEN, "RTX 4090"), {"seq": 32768}),
    "roomy": ("fits", (QWEN, "H100"), {}),
}
CELLS = {"fits": "true", "tight": "true", "no": "false", "refused": "false", "unknown": ""}
SENTENCES = {"fits": ": fits", "tight": "fits, but tight", "no": "does not fit"}


def row_of(text: str) -> dict[str, str]:
    (row,) = csv.DictReader(io.StringIO(text))
    return row


@pytest.mark.parametrize("case", CASES)
def test_a_verdict_is_the_same_in_every_format(case: str) -> None:
    word, given, asked = CASES[case]
    report = of(*given, **asked)
    (fit,) = report.fits
    assert fit.verdict == word
    assert word in VERDICTS
    (shown,) = json.loads(render("json", [report], [], Style()))["results"][0]["fit"]
    assert shown["verdict"] == word
    assert shown["fits"] == {"true": True, "false": False, "": None}[CELLS[word]]
    assert render("quiet", [report], [], Style()).endswith(f"\t{word}")
    row = row_of(render("csv", [report], [], Style()))
    (name,) = (key.removeprefix("verdict: ") for key in row if key.startswith("verdict: "))
    assert (row[f"verdict: {name}"], row[f"fits: {name}"]) == (word, CELLS[word])
    cell = render("markdown", [report], [], Style()).splitlines()[-1].rstrip(" |").rpartition("|")[2].strip()
    assert cell.partition(",")[0] == word
    listed = render("table", [report, report], [], Style(several=True))
    assert word in listed.splitlines()[3]
    card = render("table", [report], [], Style())
    assert SENTENCES.get(word, word) in card


def test_a_refusal_by_some_recipes_is_no_refusal() -> None:
    report = of(MIXTURE, "21.5GiB", runtime="vllm", dtype="nvfp4")
    result = json.loads(render("json", [report], [], Style()))["results"][0]
    assert (result["fit"][0]["fits"], result["fit"][0]["refused"], result["serving"]["refused"]) == (None, None, None)
    assert result["serving"]["command"] is None
    card = " ".join(render("table", [report], [], Style()).split())
    assert "unknown, fits with some recipes" in card
    assert "with the recipe that leaves the most unquantised, 0.06 GiB are missing" in card
    assert "refused" not in card


def test_a_refusal_by_every_recipe_is_one() -> None:
    """What is free at the start is less than the share that is asked for, whatever the weights take."""
    (fit,) = of(MIXTURE, "21.5GiB", runtime="vllm", dtype="nvfp4", reserve=2.5).fits
    assert (fit.fits, "--gpu-memory-utilization" in fit.refused) == (False, True)


def test_a_range_has_its_low_end_in_columns() -> None:
    ranged, plain = of(MIXTURE, "21.5GiB", runtime="vllm", dtype="nvfp4"), of(QWEN, "H100")
    rows = list(csv.DictReader(io.StringIO(render("csv", [ranged, plain], [], Style()))))
    assert int(rows[0]["total_low"]) == ranged.estimate.low < int(rows[0]["total"])
    assert rows[1]["total_low"] == rows[1]["total"]
    assert "total, at least (GiB)" in render("markdown", [ranged], [], Style())
    assert "total_low" not in render("csv", [plain], [], Style())


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("several", [False, True])
def test_a_reason_stands_in_the_answer_or_beside_it(name: str, *, several: bool) -> None:
    reports = [of(GPT, "H100", "T4", runtime="vllm", seq=4096)] * (2 if several else 1)
    style = Style(several=several)
    text = render(name, reports, [], style)
    beside = [sentence for sentence in remarks(reports, style, output=FORMATS[name]) if "n_positions" in sentence]
    assert ("n_positions" in text) != bool(beside)
    if beside:
        assert beside[0].startswith(f"{GPT} is refused on H100 80GB and on T4: --max-model-len 4,096 is more than")


def test_the_legend_explains_the_words_that_are_there() -> None:
    def legend(*reports: Report) -> str:
        return render("table", reports, [], Style(several=True)).split("\n\n")[1]

    assert "'refused'" in legend(of(GPT, "H100", runtime="vllm", seq=4096))
    assert "'unknown'" in legend(of(MIXTURE, "21.5GiB", runtime="vllm", dtype="nvfp4"))
    assert "'unknown'" not in legend(of(QWEN, "H100"))


def test_what_fits_by_some_recipes_is_told_beside_bare_words() -> None:
    report = of(MIXTURE, "21.5GiB", runtime="vllm", dtype="nvfp4")
    (sentence,) = remarks([report], Style(several=True), output=FORMATS["quiet"])
    assert sentence == f"{MIXTURE} fits on 21.5 GiB with some recipes only: 19.52 GiB to 20.74 GiB of 20.30 GiB."


def line(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["hfmem", *words, "--offline"])
    with pytest.raises(SystemExit) as left:
        app()
    return int(left.value.code or 0)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("beside", [[], ["--gpu", "4090"]])
def test_this_machine_without_an_accelerator_is_a_column_that_is_unknown(
    name: str, beside: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(detect, "detect", lambda: ())
    asked = [GPT, "--gpu", "auto", *beside, "--format", name]
    assert line(asked, monkeypatch) == 0
    shown = capsys.readouterr()
    assert "--gpu auto: no accelerator was found in this machine" in shown.err
    assert "unknown" in shown.out
    assert line([*asked, "--require-fit"], monkeypatch) == 3
    if name == "csv":
        assert row_of(shown.out)["verdict: auto"] == "unknown"
    if name == "json":
        absent = json.loads(shown.out)["results"][0]["fit"][0]
        assert (absent["asked"], absent["gpu"], absent["fits"]) == ("auto", "auto", None)
        assert (absent["memory"], absent["usable"], absent["total"]) == (None, None, None)


def test_an_accelerator_is_found_by_the_word_it_was_asked_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("4090", "RTX 4090", "h100", "4090", "2x4090")
    gpus = [part for word in words for part in ("--gpu", word)]
    assert line(["Qwen/Qwen3-8B", *gpus, "--format", "json"], monkeypatch) == 0
    shown = capsys.readouterr()
    fits = json.loads(shown.out)["results"][0]["fit"]
    assert [(fit["asked"], fit["gpu"], fit["gpus"]) for fit in fits] == [
        ("4090", "RTX 4090", 1),
        ("h100", "H100 80GB", 1),
        ("2x4090", "RTX 4090", 2),
    ]
    told = [sentence for sentence in shown.err.splitlines() if "shown once" in sentence]
    assert [sentence.partition(" names")[0] for sentence in told] == ["--gpu RTX 4090", "--gpu 4090"]
