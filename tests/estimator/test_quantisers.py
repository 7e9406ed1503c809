"""Quantisations to try, against models that exist in both forms."""

from __future__ import annotations

import pytest

import hfmem
from hfmem.estimator.weights.quantisers import find_quantiser


@pytest.mark.parametrize(
    ("model", "dtype", "quantised"),
    [
        ("Qwen/Qwen3-8B", "fp8", "Qwen/Qwen3-8B-FP8"),
        ("Qwen/Qwen3-30B-A3B", "fp8", "Qwen/Qwen3-30B-A3B-FP8"),
        ("meta-llama/Llama-3.1-70B-Instruct", "fp8", "nvidia/Llama-3.1-70B-Instruct-FP8"),
        ("zai-org/GLM-5", "fp8", "zai-org/GLM-5-FP8"),
    ],
)
def test_a_quantisation_to_try_takes_what_the_real_one_takes(model: str, dtype: str, quantised: str) -> None:
    """Under vLLM, which runs all of these: transformers has no quantiser for ModelOpt's."""
    ours = hfmem.estimate(model, dtype=dtype, runtime="vllm", offline=True).estimate.group("weights")
    real = hfmem.estimate(quantised, runtime="vllm", offline=True).estimate.group("weights")
    assert ours == pytest.approx(real, rel=0.01)  # scales a channel, a block or a tensor; some linears left alone


def test_nf4_replaces_exactly_what_bitsandbytes_replaced() -> None:
    """unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit: the Hub counts 6,979,321,856 packed parameters (U8, unfolded) and
    1,050,939,392 others (BF16)."""
    model = hfmem.inspect("meta-llama/Meta-Llama-3.1-8B", offline=True)
    assert model.parameters is not None
    linear = sum(group.parameters for group in model.parameters.groups if group.linear)
    assert (linear, model.parameters.total - linear) == (6_979_321_856, 1_050_939_392)
    weights = hfmem.estimate(model, dtype="nf4").estimate.group("weights")
    assert weights == linear // 2 + linear // 64 * 4 + 2 * 1_050_939_392


def test_experts_in_mxfp4_take_what_gpt_oss_stores() -> None:
    """openai/gpt-oss-20b: 19,110,297,600 parameters in blocks (the Hub's count), stored with one scale byte a 32."""
    model = hfmem.inspect("openai/gpt-oss-20b", offline=True)
    assert model.parameters is not None
    stored = sum(group.stored_bytes or 0 for group in model.parameters.groups if group.dtype == "U8")
    row = find_quantiser("mxfp4")
    assert row is not None
    assert row.nbytes((19_110_297_600 // 2880, 2880), 1) == stored
