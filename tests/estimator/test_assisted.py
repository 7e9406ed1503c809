"""Assisted generation: two models, two caches, and the higher of the peaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

import hfmem
from hfmem.engines.inference import estimate
from hfmem.estimator.values import Estimate
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model, interpret
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve
from tests.catalog import configs
from tests.command import run

RECORD: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "generation.json").read_text(encoding="utf-8")
)


def _model(config: dict[str, Any]) -> Model:
    ref = ModelRef(model_id="org/tiny")
    return interpret(Checkpoint(ref=ref, commit=None, source="local", provenance="", config=config))


def _estimate(model: Model, assistant: Model | None, **asked: Any) -> Estimate:
    beside = {} if assistant is None else {"assistant_model": "org/tiny", "companions": (("draft", assistant),)}
    return estimate(model, resolve(Options(**asked, **beside), model))


def test_a_real_run_takes_no_more() -> None:
    row = RECORD["assisted"]
    model, assistant = _model(row["config"]), _model(row["assistant"])
    found = _estimate(model, assistant, prompt=RECORD["prompt"], seq=row["tokens"], dtype="bfloat16")
    own = [term.nbytes for term in found.terms if term.group == "kv_cache" and "assistant" not in term.name]
    assert sum(own) == row["cache"]
    total = (found.group("kv_cache") or 0) + (found.group("activations") or 0)
    assert row["peak"] <= 1.1 * total  # token ids, masks and scores of a model this small are a part of it
    assert total <= 1.6 * row["peak"]


def test_both_models_and_both_caches_stay() -> None:
    asked = {"seq": 4096, "prompt": 1000}
    main, small = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.2-1B-Instruct"
    one, other, both = (
        hfmem.estimate(name, offline=True, **asked, **more).estimate
        for name, more in ((main, {}), (small, {}), (main, {"assistant_model": small}))
    )
    for group in ("weights", "kv_cache"):
        assert both.group(group) == (one.group(group) or 0) + (other.group(group) or 0)  # type: ignore[arg-type]
    assert (both.group("activations") or 0) >= max(one.group("activations") or 0, other.group("activations") or 0)
    assert both.kv_cache_per_token == (one.kv_cache_per_token or 0) + (other.kv_cache_per_token or 0)


@pytest.mark.parametrize("name", ["Qwen/Qwen3-Next-80B-A3B-Instruct", "tiiuae/falcon-mamba-7b"])
def test_recurrent_states_cannot_be_taken_back(name: str) -> None:
    model = _model(configs()[name])
    found = _estimate(model, _model(configs()["meta-llama/Llama-3.2-1B-Instruct"]), seq=1024)
    assert "recurrent states cannot" in found.refused


def test_an_assistant_that_is_not_known_is_no_fit() -> None:
    model = _model(configs()["meta-llama/Llama-2-7b-hf"])
    assert "could not be read" in _estimate(model, _model({"model_type": "nobody"}), seq=1024).refused


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--batch", "2"], "--assistant-model drafts for one sequence"),
        (["--num-beams", "2"], "--assistant-model drafts for one sequence"),
        (["--cache-implementation", "static"], "needs a cache whose last tokens can be taken back"),
        (["--runtime", "vllm"], "--assistant-model"),
        (["--train", "full"], "--assistant-model"),
    ],
)
def test_what_does_not_go_together(words: list[str], sentence: str) -> None:
    result = run("meta-llama/Llama-2-7b-hf", "--offline", "--assistant-model", "openai-community/gpt2", *words)
    assert result.returncode == 2
    assert sentence in " ".join(result.stderr.split())


def test_an_assistant_that_is_nowhere_is_an_error() -> None:
    result = run("meta-llama/Llama-2-7b-hf", "--offline", "--assistant-model", "org/nowhere")
    assert result.returncode in (1, 2)
    assert "org/nowhere" in result.stderr
