"""Prompts in pieces and answers after them, against whole models as `python -m tests.oracle.pieces` recorded them."""

from __future__ import annotations

import json
from typing import Any

import pytest

import hfmem
from hfmem.errors import InvalidScenarioError
from hfmem.report.values import Report
from tests.oracle.activations import model_of
from tests.oracle.pieces import TARGET, predicted

ROWS: list[dict[str, Any]] = json.loads(TARGET.read_text())["rows"]


def told(model: str = "meta-llama/Llama-2-7b-hf", **asked: Any) -> Report:
    return hfmem.estimate(model, offline=True, **asked)


def test_the_recording_covers_enough() -> None:
    models = {row["model"] for row in ROWS}
    assert len(models) >= 20
    types = {model_of(row).architecture.model_type for row in ROWS}
    assert {"llama", "gemma2", "gemma3", "gpt_oss", "qwen3_moe", "deepseek_v3"} <= types


def named(row: dict[str, Any]) -> str:
    return "{model} {batch}x{prompt}/{piece}+{answer}".format(**row)


KNOWN = {
    "Qwen/Qwen3-Next-80B-A3B-Instruct 2x1920/128+1": "a moment of the delta rule between two of its chunks is missed",
}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=named(row), marks=[pytest.mark.xfail(reason=KNOWN[named(row)], strict=True)])
        if named(row) in KNOWN
        else pytest.param(row, id=named(row))
        for row in ROWS
    ],
)
def test_the_highest_moment(row: dict[str, Any]) -> None:
    assert predicted(row) == pytest.approx(row["highest"], rel=0.05)


def test_most_rows_are_exact() -> None:
    exact = sum(predicted(row) == pytest.approx(row["highest"], rel=0.001) for row in ROWS)
    assert exact >= 0.85 * len(ROWS)


@pytest.mark.parametrize("asked", [{"prompt": 4096}, {"prefill_chunk": 4096}, {"prefill_chunk": 10**6}])
def test_a_prompt_that_is_all_in_one_piece_is_the_prefill(asked: dict[str, int]) -> None:
    assert told(seq=4096, **asked).estimate.total == told(seq=4096).estimate.total


def test_pieces_take_less_and_smaller_ones_no_more() -> None:
    totals = [told(seq=32768, prefill_chunk=piece).estimate.total for piece in (512, 2048, 8192, 32768)]
    assert totals == sorted(totals)
    assert totals[0] < totals[-1]


def test_an_answer_is_cached_and_not_prefilled() -> None:
    short, long = told(seq=4096, prompt=512), told(seq=4096)
    assert short.estimate.group("kv_cache") == long.estimate.group("kv_cache")
    assert (short.estimate.group("activations") or 0) < (long.estimate.group("activations") or 0)


def test_the_prompt_is_part_of_the_sequence() -> None:
    with pytest.raises(InvalidScenarioError, match="covers prompt and output and defaults to 4,096"):
        told(prompt=5000)
    with pytest.raises(InvalidScenarioError, match="covers prompt and output"):
        told(seq=100, prompt=101)


def test_where_neither_changes_anything_it_is_said() -> None:
    notes = " ".join(told(runtime="vllm", prompt=64, prefill_chunk=32).notes)
    assert "--prompt has no effect" in notes
    assert "--prefill-chunk has no effect" in notes
    assert "--prefill-chunk has no effect" in " ".join(told("google-t5/t5-base", prefill_chunk=32).notes)


def test_the_search_for_a_context_goes_on_in_pieces() -> None:
    whole, pieces = (told("Qwen/Qwen3-8B", gpu="RTX 4090", **asked).fits for asked in ({}, {"prefill_chunk": 1024}))
    assert whole is not None
    assert pieces is not None
    assert (pieces[0].max_seq or 0) > (whole[0].max_seq or 0)
