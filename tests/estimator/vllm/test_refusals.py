"""What vLLM refuses to start with is told, is no fit, and gets no line to copy."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from hfmem import Model, estimate, inspect
from hfmem.engines.vllm.refusals import longest
from hfmem.engines.vllm.releases import read_of
from hfmem.errors import InvalidScenarioError
from hfmem.mapper.context import context_of
from hfmem.mapper.values import Architecture
from hfmem.report.formats import Style, render
from hfmem.report.result import to_result

QWEN = "Qwen/Qwen3-8B"  # max_position_embeddings 40,960
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}


@cache
def model(name: str) -> Model:
    return inspect(name, offline=True)


def server(**asked: Any) -> dict[str, Any]:
    return to_result(estimate(model(QWEN), **{"runtime": "vllm", "gpu": "H100", **asked}))


def test_the_models_own_maximum_starts() -> None:
    found = server(seq=40_960)
    (fit,) = found["fit"]
    assert (fit["fits"], fit["refused"], found["serving"]["refused"]) == (True, None, None)
    assert found["serving"]["command"] == "vllm serve Qwen/Qwen3-8B --max-model-len 40960"


@pytest.mark.parametrize("seq", [40_961, 131_072])
def test_more_is_refused(seq: int) -> None:
    found = server(seq=seq)
    (fit,) = found["fit"]
    assert (fit["fits"], fit["max_batch"], fit["max_seq"], fit["gpus_needed"]) == (False, 0, 40_960, None)
    assert fit["refused"] == found["serving"]["refused"]
    assert "40,960 (max_position_embeddings)" in fit["refused"]
    assert found["serving"]["command"] is None
    assert {row["option"] for row in found["help"] if row["fits"]} == {"--seq 40960"}


def test_the_refusal_is_told_without_a_card() -> None:
    found = server(gpu=(), seq=131_072)
    assert (found["serving"]["command"], found["serving"]["kv_pool"]) == (None, None)
    assert "40,960" in found["serving"]["refused"]


def test_the_card_has_no_line_to_copy() -> None:
    report = estimate(model(QWEN), runtime="vllm", gpu="H100", seq=131_072)
    text = render("table", [report], [], Style())
    assert "vllm serve" not in text
    assert "refused at the start: --max-model-len 131,072" in text


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"gpu": "T4"}, "are missing before any KV cache can be allocated"),
        ({"gpu": "RTX 4090", "seq": 40_960}, "a request of 40,960 tokens needs 5.62 GiB of KV cache, and 5.22 GiB"),
        ({"max_num_seqs": 512, "max_num_batched_tokens": 256}, "--max-num-batched-tokens 256 is less than"),
        ({"reserve": "10GiB"}, "--gpu-memory-utilization 0.86 is the most that fits"),
        ({"gpu_memory_utilization": 0.999}, "are free at start-up"),
    ],
    ids=str,
)
def test_other_refusals(asked: dict[str, Any], reason: str) -> None:
    found = server(**asked)
    (fit,) = found["fit"]
    assert fit["fits"] is False
    assert reason in fit["refused"]
    assert (found["serving"]["refused"], found["serving"]["command"]) == (fit["refused"], None)


def test_what_is_left_to_others_may_be_planned_with() -> None:
    found = server(reserve=10, gpu_memory_utilization=0.85)
    assert found["fit"][0]["fits"] is True
    assert found["serving"]["command"]


def test_free_memory_is_checked_since_0_9() -> None:
    assert server(reserve=10, vllm_version="0.8.5")["serving"]["refused"] is None


def test_too_many_at_once_get_no_line() -> None:
    """It would start, and let requests wait: what was asked does not fit."""
    found = server(gpu="RTX 4090", batch=16)
    (fit,) = found["fit"]
    assert (fit["fits"], fit["refused"], fit["max_batch"]) == (False, None, 9)
    assert (found["serving"]["command"], found["serving"]["refused"]) == (None, None)
    assert server(gpu="RTX 4090", batch=9)["serving"]["command"]


@pytest.mark.parametrize(
    ("config", "version", "length"),
    [
        ({"max_position_embeddings": 40_960}, "0.27", 40_960),
        ({"max_position_embeddings": 40_960, "rope_scaling": YARN}, "0.27", 131_072),
        ({"max_position_embeddings": 40_960, "rope_scaling": YARN}, "0.33", 40_960),
        ({"max_position_embeddings": 131_072, "rope_parameters": YARN}, "0.33", 131_072),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, "0.33", 16_384),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": 2}}, "0.19", 8192),
        ({"max_position_embeddings": 131_072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "0.27", 131_072),
        ({"max_position_embeddings": 131_072, "rope_scaling": {"type": "longrope"}}, "0.27", 131_072),
        ({"max_position_embeddings": 32_768, "seq_length": 8192}, "0.27", 8192),
        ({"max_position_embeddings": 8192, "model_max_length": 131_072}, "0.27", 131_072),
        ({"model_type": "gemma3", "max_position_embeddings": 131_072, "rope_scaling": {"factor": 8}}, "0.27", 131_072),
        ({"text_config": {"max_position_embeddings": 8192}}, "0.27", 8192),
        ({"max_target_positions": 448}, "0.27", 448),
        ({"max_position_embeddings": None}, "0.27", None),
        ({"max_position_embeddings": True, "rope_scaling": "none"}, "0.27", None),
    ],
    ids=str,
)
def test_the_longest_context_by_release(config: dict[str, Any], version: str, length: int | None) -> None:
    architecture = Architecture(model_type=config.get("model_type"), context=context_of(config, None))
    found = longest(architecture, read_of(version))
    assert (found[1] if found else None) == length


def test_makers_may_allow_more() -> None:
    plain = model(QWEN)
    context = plain.architecture.context
    assert context is not None
    allowed = replace(plain.architecture, context=replace(context, allowed=131_072))
    found = estimate(replace(plain, architecture=allowed), runtime="vllm", gpu="H100", seq=131_072)
    assert found.estimate.refused == ""


@pytest.mark.parametrize(
    ("name", "asked", "reason"),
    [
        ("Qwen/Qwen3-32B", {"gpu": "RTX 5090", "dtype": "mxfp4", "vllm_version": "0.27"}, "does not quantise to MXFP4"),
        ("Qwen/Qwen3-32B", {"gpu": "RTX 5090", "dtype": "mxfp4", "vllm_version": "0.33"}, ""),
        (
            "Qwen/Qwen3-8B",
            {"gpu": "T4", "dtype": "fp8", "kv_dtype": "fp8"},
            "FP8 KV cache with the Triton attention backend",
        ),
        ("openai/gpt-oss-20b", {"gpu": "RTX 3090", "kv_dtype": "fp8"}, "FP8 KV cache with attention sinks"),
        ("openai/gpt-oss-20b", {"gpu": "H100", "kv_dtype": "fp8"}, ""),
        ("Qwen/Qwen3-8B", {"gpu": "RTX 3090", "dtype": "fp8", "kv_dtype": "fp8"}, ""),
        ("Qwen/Qwen3-8B", {"gpu": "RTX 4090", "kv_dtype": "int8"}, "--kv-cache-dtype int8 does not exist"),
        ("Qwen/Qwen3-8B", {"gpu": "RTX 4090", "kv_dtype": "float32"}, "--kv-cache-dtype float32 does not exist"),
        ("google/gemma-3-4b-it", {"gpu": "RTX 3060", "dtype": "float16"}, "numerically unstable in float16"),
        ("Qwen/Qwen3-8B", {"gpu": "M3 Max"}, "no platform for Apple GPUs"),
        ("Qwen/Qwen3-8B-FP8", {"gpu": "M3 Max", "dtype": "int4"}, "no platform for Apple GPUs"),
        ("Qwen/Qwen3-8B-FP8", {"gpu": "V100", "dtype": "int4"}, "compute capability 7.5"),
        ("Qwen/Qwen3-4B", {"gpu": "P40", "vllm_version": "0.27"}, "vLLM 0.27 needs compute capability 7.0"),
        ("Qwen/Qwen3-4B", {"gpu": "V100", "vllm_version": "0.33"}, "compute capability 7.5"),
        ("Qwen/Qwen3-8B", {"gpu": "Arc B580", "dtype": "nf4"}, "not supported in xpu"),
        ("Qwen/Qwen3-8B", {"gpu": "RX 7900 XTX", "dtype": "nf4", "vllm_version": "0.33"}, "not supported in rocm"),
        ("Qwen/Qwen3-8B", {"gpu": "RX 7900 XTX", "dtype": "nf4", "vllm_version": "0.27"}, ""),
        ("Qwen/Qwen3-8B", {"gpu": "H100", "mamba_cache_mode": "all"}, "does not exist in vLLM 0.33"),
        ("Qwen/Qwen3-8B", {"gpu": "H100", "mamba_cache_mode": "all", "vllm_version": "0.31"}, ""),
        ("meta-llama/Llama-3.1-8B-Instruct", {"gpu": "4x H100", "ep": 4}, "number of experts"),
    ],
)
def test_what_the_engine_refuses_on_an_accelerator(name: str, asked: dict[str, object], reason: str) -> None:
    report = estimate(model(name), runtime="vllm", **asked)
    (fit,) = report.fits
    assert reason in fit.refused
    assert bool(fit.refused) is bool(reason)
    assert report.estimate.serving is not None
    assert bool(report.estimate.serving.command) is not bool(fit.refused)
    assert not (fit.fits and fit.refused)


def test_a_model_that_float16_does_not_hold_runs_in_float32_on_old_cards() -> None:
    report = estimate(model("google/gemma-3-4b-it"), runtime="vllm", gpu="T4")
    assert report.scenario.dtype == "float32"
    assert report.fits is not None
    assert report.fits[0].fits is False


def test_a_cache_of_another_dtype_is_in_the_line() -> None:
    lines = {}
    for word in (None, "bfloat16", "float16", "fp8", "fp8_e5m2"):
        report = estimate(model("Qwen/Qwen3-8B"), runtime="vllm", gpu="H100", kv_dtype=word)
        assert report.estimate.serving is not None
        lines[word] = (report.estimate.serving.command or "").partition(" --kv-cache-dtype ")[2]
    assert lines == {None: "", "bfloat16": "", "float16": "float16", "fp8": "fp8", "fp8_e5m2": "fp8_e5m2"}


@pytest.mark.parametrize("asked", [{"tp": 4, "ep": 2}, {"tp": 2, "dp": 2, "ep": 2}])
def test_experts_lie_on_all_ranks_of_a_stage(asked: dict[str, Any]) -> None:
    """config/parallel.py: `enable_expert_parallel` is a switch, and its size is that of tp × dp."""
    with pytest.raises(InvalidScenarioError, match="tp × dp = 4"):
        estimate("mistralai/Mixtral-8x7B-v0.1", offline=True, runtime="vllm", gpu="H100", **asked)
