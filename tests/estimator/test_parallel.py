"""Parallel plans: what bare numbers mean, what is refused, what each rank holds."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from hfmem import Model, estimate, inspect
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import Parallel, plan
from hfmem.report.result import to_result

model = cache(lambda name: inspect(name, offline=True))
LLAMA, MIXTURE, LATENT = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V2-Lite"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Parallel()),
        ({"gpus": 4}, Parallel(tp=4)),
        ({"gpus": 4, "training": True}, Parallel(dp=4)),
        ({"gpus": 8, "pp": 2}, Parallel(tp=4, pp=2)),
        ({"gpus": 8, "tp": 2, "training": True}, Parallel(tp=2, dp=4)),
        ({"gpus": 8, "tp": 4, "pp": 2}, Parallel(tp=4, pp=2)),
        ({"tp": 2, "dp": 2, "ep": 4}, Parallel(tp=2, dp=2, ep=4)),
    ],
)
def test_what_the_numbers_mean(given: dict[str, Any], expected: Parallel) -> None:
    assert plan(**given) == expected


@pytest.mark.parametrize("given", [{"gpus": 4, "tp": 2}, {"gpus": 4, "pp": 3}, {"gpus": 2, "tp": 4}])
def test_contradictions_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidScenarioError):
        plan(**given)


@pytest.mark.parametrize(
    ("name", "asked", "reason"),
    [
        (LLAMA, {"tp": 3}, "32 attention heads"),
        (LLAMA, {"tp": 16}, "8 key/value heads"),
        (LLAMA, {"pp": 64, "runtime": "vllm"}, "32 layers"),
        (MIXTURE, {"tp": 2, "dp": 128, "ep": 256, "runtime": "vllm"}, "128 experts"),
        (MIXTURE, {"tp": 4, "ep": 2, "runtime": "vllm"}, "tp × dp"),
    ],
)
def test_what_an_engine_refuses(name: str, asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidScenarioError, match=reason):
        estimate(model(name), **asked)


def test_vllm_repeats_key_value_heads_and_transformers_cannot() -> None:
    kv = {tp: estimate(model(LLAMA), tp=tp, runtime="vllm").estimate.group("kv_cache") for tp in (1, 8, 16)}
    assert kv[8] == kv[16] == (kv[1] or 0) // 8


def test_latents_are_on_every_rank() -> None:
    kv = [estimate(model(LATENT), tp=tp, runtime="vllm").estimate.group("kv_cache") for tp in (1, 2, 4)]
    assert len(set(kv)) == 1


@pytest.mark.parametrize("runtime", ["transformers", "vllm"])
@pytest.mark.parametrize("asked", [{"tp": 2}, {"pp": 2}, {"tp": 2, "pp": 4}, {"tp": 2, "dp": 2}])
@pytest.mark.parametrize("name", [LLAMA, MIXTURE])
def test_ranks_share_the_weights(name: str, asked: dict[str, Any], runtime: Any) -> None:
    """Together they hold at least everything, and no more than what is repeated."""
    report = estimate(model(name), runtime=runtime, **asked)
    result = to_result(report)
    parallel = report.scenario.parallel
    whole = estimate(model(name), runtime=runtime).estimate.group("weights") or 0
    assert sum(row["count"] for row in result["per_gpu"]) == parallel.gpus
    assert sorted(rank for row in result["per_gpu"] for rank in row["ranks"]) == list(range(parallel.gpus))
    replicas = 1 if runtime == "vllm" and name == MIXTURE else parallel.dp
    together = result["memory_all_gpus"]["weights"] / replicas
    assert 0.99 * whole <= together <= 1.2 * whole + 2**30
    assert result["memory"]["total"] == max(row["total"] for row in result["per_gpu"])
    assert any(result["memory"].items() <= row.items() for row in result["per_gpu"])


def test_experts_are_shared_by_all_ranks_of_a_stage() -> None:
    """vLLM's replicas share the experts, whole (`--ep`) or in parts; those of transformers do not."""
    parts, whole = (estimate(model(MIXTURE), runtime="vllm", tp=2, dp=2, ep=ep).estimate for ep in (1, 4))
    alone = estimate(model(MIXTURE), runtime="transformers", tp=2, dp=2).estimate
    assert parts.group("weights") == whole.group("weights")
    assert (parts.group("weights") or 0) < 0.6 * (alone.group("weights") or 0)


@pytest.mark.parametrize(("name", "used"), [(LLAMA, 8), ("openai-community/gpt2", 1), ("Qwen/Qwen2.5-0.5B", 2)])
def test_a_machine_is_used_as_far_as_the_engine_accepts(name: str, used: int) -> None:
    """32 heads; a class without a plan; 14 heads with 2 of keys and values."""
    report = estimate(model(name), gpu=("p5.48xlarge",))
    assert report.scenario.parallel == Parallel(tp=used)
    assert any("of the 8 H100" in note for note in report.notes) == (used < 8)


def test_one_gpu_has_no_rows() -> None:
    result = to_result(estimate(model(LLAMA)))
    assert result["per_gpu"] is None
    assert result["memory_all_gpus"] is None


def test_a_model_without_layers_cannot_be_split() -> None:
    unknown: Model = inspect("nvidia/DeepSeek-V4-Flash-NVFP4", offline=True)
    from dataclasses import replace

    bare = replace(unknown, architecture=replace(unknown.architecture, layers=None))
    with pytest.raises(InvalidScenarioError, match="are unknown"):
        estimate(bare, tp=2)
