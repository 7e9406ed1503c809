"""Beams, answers per prompt and kinds of caches, held against the cache objects of transformers (recorded)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from hfmem.engines.inference import estimate
from hfmem.estimator.cache.generation import packed_tokens
from hfmem.estimator.scenario import PackedCache, Scenario
from hfmem.estimator.values import Estimate, total_of
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model, interpret
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve
from tests.catalog import configs
from tests.command import run

RECORD: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "generation.json").read_text(encoding="utf-8")
)

_ASKED: Final = ("num_beams", "num_return_sequences", "cache_implementation")


def _model(row: dict[str, Any]) -> Model:
    ref = ModelRef(model_id="org/tiny")
    return interpret(Checkpoint(ref=ref, commit=None, source="local", provenance="", config=row["config"]))


def _estimate(model: Model, asked: dict[str, Any]) -> Estimate:
    settings = tuple(f"{key}={value}" for key, value in asked.get("cache_config", {}).items())
    options = Options(
        batch=RECORD["batch"],
        prompt=RECORD["prompt"],
        seq=RECORD["prompt"] + RECORD["new"] - 1,  # the last token is not cached
        dtype="bfloat16",
        cache_config=settings,
        **{key: asked[key] for key in _ASKED if key in asked},
    )
    return estimate(model, resolve(options, model))


def _runs() -> Iterator[Any]:
    for row in RECORD["types"]:
        for number, one in enumerate(row["runs"]):
            yield pytest.param(row, one, id=f"{row['type']}-{number}")


def _without_last(model: Model, found: int, copies: int) -> int:
    """The cache of windows as it is between two tokens: one token less (`DynamicSlidingWindowLayer`)."""
    windows = [layer.cache for layer in model.architecture.layers or () if getattr(layer.cache, "window", None)]
    each = sum(cache.heads * (cache.key_dim + cache.value_dim) * 2 for cache in windows)  # type: ignore[attr-defined]
    return found - each * RECORD["batch"] * copies


@pytest.mark.parametrize(("row", "one"), list(_runs()))
def test_the_cache_is_the_one_of_generate(row: dict[str, Any], one: dict[str, Any]) -> None:
    model = _model(row)
    found = _estimate(model, one)
    assert bool(found.refused) == ("refused" in one)
    if found.refused:
        return
    ours = found.group("kv_cache") or 0
    copies = max(one.get("num_beams", 1), one.get("num_return_sequences", 1))
    growing = one.get("cache_implementation", "dynamic") == "dynamic"
    assert one["cache"] == (_without_last(model, ours, copies) if growing else ours)


@pytest.mark.parametrize("kind", ["offloaded", "offloaded_static"])
@pytest.mark.parametrize("row", RECORD["types"], ids=lambda row: row["type"])
def test_an_offloaded_cache_is_where_the_real_one_is(row: dict[str, Any], kind: str) -> None:
    model, recorded = _model(row), row[kind]
    found = _estimate(model, {"cache_implementation": kind})
    assert bool(found.refused) == ("refused" in recorded)
    if found.refused:
        return
    there = sum(term.nbytes for term in found.terms if term.name == "two layers of the offloaded cache")
    stay = sum(term.nbytes for term in found.terms if term.name == "layers that are not offloaded")
    windows = 0 if kind == "offloaded_static" else len(row["config"].get("layer_types", ()))
    assert there + stay >= recorded["most"]
    # between two tokens one layer is on the GPU already; the host holds all the others
    assert total_of(found.host) >= recorded["host"]
    assert recorded["host"] + recorded["gpu"] <= total_of(found.host) + stay
    assert windows or total_of(found.host) - there <= recorded["host"]


def test_enough_types_are_recorded() -> None:
    held = [row for row in RECORD["types"] if all("refused" not in one for one in row["runs"][:6])]
    quantised = [row for row in held if "refused" not in row["runs"][6]]
    assert len(held) >= 8
    assert len(quantised) >= 4


def test_what_a_model_takes_is_above_what_one_layer_takes() -> None:
    """The peaks were measured on small models of a few layers, whose token ids and masks count too. With latent
    attention, keys are wider than values, and a CPU has no fused kernel for that: its scores are left out."""
    for row in RECORD["types"]:
        if row["type"] == "deepseek_v3":
            continue
        model = _model(row)
        for one in row["runs"]:
            found = _estimate(model, one)
            if not found.refused:
                ours = (found.group("kv_cache") or 0) + (found.group("activations") or 0)
                assert ours >= 0.91 * one["peak"], (row["type"], one)


@pytest.mark.parametrize(
    ("seq", "prompt", "chunk", "residual", "expected"),
    [
        (64, None, None, 128, (64, 0)),
        (100, 64, None, 128, (64, 36)),
        (191, 64, None, 128, (64, 127)),
        (192, 64, None, 128, (192, 0)),  # the 128th waiting token is quantised together with the others
        (193, 64, None, 128, (192, 1)),
        (448, 64, None, 128, (448, 0)),
        (64, 64, 16, 128, (16, 48)),
        (256, 256, 100, 128, (256, 0)),  # 100 at once; 100 wait, fewer than 128; with 56 more they are enough
        (300, 256, 60, 128, (240, 60)),  # 60; 60, 120, 180 wait and are quantised: 240; then 16, and 44 tokens
    ],
)
def test_tokens_that_wait(
    seq: int, prompt: int | None, chunk: int | None, residual: int, expected: tuple[int, int]
) -> None:
    """By hand, from `QuantizedLayer.update`."""
    packed = PackedCache(backend="quanto", bits=4, group=64, residual=residual)
    scenario = Scenario(
        mode="inference",
        batch=1,
        seq=seq,
        prompt=prompt,
        prefill_chunk=chunk,
        dtype="bfloat16",
        compute_dtype="bfloat16",
        kv_dtype="bfloat16",
        runtime="transformers",
        attention="sdpa",
        method="exact",
    )
    assert packed_tokens(packed, scenario) == _by_steps(packed, seq, prompt or seq, chunk) == expected


def _by_steps(packed: PackedCache, seq: int, prompt: int, chunk: int | None) -> tuple[int, int]:
    """The same, one pass after the other."""
    steps = [min(chunk or prompt, prompt - start) for start in range(0, prompt, chunk or prompt)] + [1] * (seq - prompt)
    quantised, waiting = steps[0], 0
    for tokens in steps[1:]:
        waiting += tokens
        if waiting >= packed.residual:
            quantised, waiting = quantised + waiting, 0
    return quantised, waiting


@pytest.mark.parametrize("kind", ["dynamic", "static", "offloaded", "offloaded_static", "quantized"])
def test_more_tokens_never_take_less(kind: str) -> None:
    """What is found by bisection, such as the longest context, relies on it."""
    model = _model({"config": configs()["meta-llama/Llama-2-7b-hf"]})

    def total(seq: int) -> int:
        options = Options(seq=seq, prompt=64, cache_implementation=kind, num_beams=2)  # type: ignore[arg-type]
        return estimate(model, resolve(options, model)).total

    totals = [total(seq) for seq in range(180, 460, 3)]
    assert totals == sorted(totals)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--num-beams", "2", "--num-return-sequences", "3"], "--num-return-sequences exceeds --num-beams"),
        (["--cache-config", "nbits=2"], "needs --cache-implementation quantized"),
        (["--cache-implementation", "quantized", "--cache-config", "nbits=3"], "quanto has 2 and 4 bits"),
        (["--cache-implementation", "quantized", "--cache-config", "bits=3"], "expected backend=…, nbits=…"),
        (["--cache-implementation", "paged"], "is not one of dynamic, static, offloaded, offloaded_static, quantized"),
        (["--num-beams", "2", "--runtime", "vllm"], "--num-beams"),
        (["--cache-implementation", "static", "--runtime", "llamacpp"], "--cache-implementation"),
        (["--num-return-sequences", "2", "--runtime", "mlx"], "--num-return-sequences"),
        (["--num-beams", "2", "--train", "full"], "--num-beams"),
        (["--num-beams", "0"], "expected 1 to"),
    ],
)
def test_what_does_not_go_together(words: list[str], sentence: str) -> None:
    result = run("openai-community/gpt2", "--offline", *words)
    assert result.returncode == 2
    assert sentence in " ".join(result.stderr.split())
