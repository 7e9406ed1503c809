"""What vLLM holds beside the checkpoint's tensors, by release. Readings are in `fixtures/measured/inference.jsonl`."""

from __future__ import annotations

import pytest

from hfmem import estimate
from hfmem.estimator.weights.quantisers import layout
from hfmem.units import MIB


def weights(name: str, **options: object) -> dict[str, int]:
    found = estimate(name, runtime="vllm", seq=2048, gpu="H100", offline=True, **options).estimate
    return {term.name: term.nbytes for term in found.terms if term.group == "weights"}


def test_nested_scales_are_a_byte_per_block_and_a_float_per_256_blocks() -> None:
    # a matrix of 2048 x 2048: 2 MiB of codes, 65,536 blocks of 64
    assert layout("nf4 nested").nbytes((2048, 2048), 1) == 2 * MIB + 65_536 + 4 * 256
    assert layout("nf4").nbytes((2048, 2048), 1) == 2 * MIB + 4 * 65_536


def test_scales_of_bitsandbytes_are_nested_up_to_0_9_1() -> None:
    old, new = (
        weights("TinyLlama/TinyLlama-1.1B-Chat-v1.0", dtype="nf4", vllm_version=version)
        for version in ("0.9.1", "0.9.2")
    )
    blocks = 761_266_176 // 64
    assert new["mlp (nf4)"] - old["mlp (nf4)"] == 4 * blocks - (blocks + 4 * blocks // 256)


def test_codes_are_a_tensor_without_their_scales() -> None:
    # the gate and up projection of TinyLlama have 11 MiB of codes in a segment of 12 MiB
    found = weights("TinyLlama/TinyLlama-1.1B-Chat-v1.0", dtype="nf4", vllm_version="0.8.3")
    assert found["allocator's rounding"] >= 22 * MIB


@pytest.mark.parametrize(("version", "there"), [("0.11.0", 0), ("0.11.1", 1), ("0.24", 1), ("0.25", 0)])
def test_the_workspace_of_a_kernel_that_is_only_asked(version: str, there: int) -> None:
    found = weights("deepseek-ai/DeepSeek-V2-Lite", vllm_version=version)
    assert found.get("FlashInfer's workspace", 0) == there * 128 * MIB


def test_latent_projections_are_copies_only_where_they_are_quantised() -> None:
    assert "latent projections" not in weights("deepseek-ai/DeepSeek-V2-Lite")
    assert "latent projections" in weights("deepseek-ai/DeepSeek-V2-Lite", dtype="fp8")


def test_gpt_oss_has_its_rotary_table_in_float32() -> None:
    assert weights("openai/gpt-oss-20b")["rotary table"] == 131_072 * 64 * 4
