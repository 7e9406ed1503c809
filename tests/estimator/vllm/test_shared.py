"""Context parallelism, disaggregated servers, mixes of requests, the longest context, the least of the memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from hfmem import HfmemError, estimate, inspect

model = cache(lambda name: inspect(name, offline=True))
LLAMA, DEEPSEEK, GEMMA = "meta-llama/Llama-3.1-8B-Instruct", "deepseek-ai/DeepSeek-V3", "google/gemma-3-27b-it"
QWEN, MIXTURE = "Qwen/Qwen3.5-27B", "Qwen/Qwen3-30B-A3B"


def report(name: str, **asked: Any) -> Any:
    return estimate(model(name), runtime="vllm", **({"gpu": ("H200",), "seq": 8192} | asked))


def test_ranks_share_the_tokens_of_latents() -> None:
    """Every tensor-parallel rank has all latents, or its share of the tokens: DeepSeek-V3 on eight."""
    alone, shared = (report(DEEPSEEK, tp=8, decode_context_parallel_size=ranks).estimate for ranks in (1, 8))
    assert alone.kv_cache_per_token == 61 * 576 * 2
    assert shared.kv_cache_per_token == alone.kv_cache_per_token // 8
    assert shared.group("kv_cache") == alone.group("kv_cache") // 8
    assert shared.serving.max_concurrency == pytest.approx(8 * alone.serving.max_concurrency, rel=0.01)
    assert shared.serving.kv_tokens == pytest.approx(8 * alone.serving.kv_tokens, rel=0.01)
    assert "--decode-context-parallel-size 8" in shared.serving.command


def test_ranks_share_the_tokens_of_replicated_heads() -> None:
    """Qwen3-30B-A3B has 4 KV heads: eight ranks have each of them twice."""
    alone, shared = (report(MIXTURE, tp=8, decode_context_parallel_size=ranks).estimate for ranks in (1, 2))
    assert shared.kv_cache_per_token == alone.kv_cache_per_token // 2


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        (LLAMA, {"tp": 4, "decode_context_parallel_size": 2}, "needs --tensor-parallel-size 16 or more"),
        (DEEPSEEK, {"tp": 8, "decode_context_parallel_size": 3}, "does not divide --tensor-parallel-size 8"),
        (GEMMA, {"tp": 2, "decode_context_parallel_size": 2}, "sliding windows"),
        (DEEPSEEK, {"tp": 8, "decode_context_parallel_size": 8, "vllm_version": "0.9"}, "0.10.2 and later"),
        (QWEN, {"kv_role": "consumer", "vllm_version": "0.19"}, "recurrent states"),
        (LLAMA, {"request_mix": ("8k+1k",)}, "9,216 tokens, and --max-model-len is 8,192"),
    ],
    ids=str,
)
def test_what_is_refused(name: str, asked: dict[str, Any], told: str) -> None:
    assert told in report(name, **asked).estimate.refused


def test_a_connector_makes_windows_keep_all_tokens_up_to_0_22() -> None:
    """Gemma-3-27b: 52 of 62 layers have windows of 1,024."""
    asked: dict[str, Any] = {"seq": 32_768, "vllm_version": "0.22"}
    alone, connected = (report(GEMMA, kv_role=role, **asked).estimate for role in (None, "producer"))
    assert connected.kv_cache_per_token == 62 * 2 * 16 * 128 * 2
    assert connected.group("kv_cache") > 2 * alone.group("kv_cache")
    new = report(GEMMA, kv_role="producer", seq=32_768, vllm_version="0.23").estimate
    assert new.group("kv_cache") == report(GEMMA, seq=32_768, vllm_version="0.23").estimate.group("kv_cache")
    assert '"kv_role":"kv_producer"' in new.serving.command


def test_experts_of_replicas_with_attention_of_their_own() -> None:
    """Eight replicas with expert parallelism: each has all of the attention, its own cache, and an eighth of 256
    experts of 58 layers (58 × 32 × 3 × 7,168 × 2,048 × 1 B and scales)."""
    found = report(DEEPSEEK, dp=8, ep=8).estimate
    (experts,) = (
        t.nbytes for t in found.terms if t.name.startswith("experts") and t.group == "weights" and "scal" not in t.name
    )
    assert experts == pytest.approx(58 * 32 * 3 * 7168 * 2048, rel=0.001)
    assert found.kv_cache_per_token == 61 * 576 * 2
    assert "--data-parallel-size 8 --enable-expert-parallel" in (found.serving.command or found.serving.refused)


def test_a_mix_by_hand() -> None:
    """Blocks of 16: a request of 160 + 0 has ten blocks for one step; one of 160 + 160 grows from 10 to 20 blocks over
    161 steps. A third of them is long: 2 × 1 step at 10 and 161 steps at 15.5 on average."""
    asked: dict[str, Any] = {"request_mix": ("160+0@2", "160+160@1"), "max_num_seqs": 4096}
    serving = report(LLAMA, **asked).estimate.serving
    average = (2 * 10 + 161 * 15.5) / 163
    assert serving.mix.on_average == pytest.approx(serving.kv_blocks / average, rel=0.01)
    assert serving.mix.at_full_length == pytest.approx(serving.kv_blocks / (2 / 3 * 10 + 1 / 3 * 20), rel=0.001)
    assert not serving.mix.limited


def test_a_mix_on_each_side() -> None:
    """A producer holds prompts only; the engine's limit of sequences counts as well."""
    whole, prompts = (
        report(LLAMA, request_mix=("1000+3000",), kv_role=role).estimate.serving.mix
        for role in ("consumer", "producer")
    )
    assert prompts.on_average == pytest.approx(min(1024, whole.at_full_length * 4), rel=0.02)
    assert report(LLAMA, request_mix=("10+10",), max_num_seqs=8).estimate.serving.mix.on_average == 8


def test_the_longest_that_fits() -> None:
    """`--max-model-len auto`: one token more would not start."""
    found = report(LLAMA, seq="auto", gpu=("RTX 4090",))
    longest = found.scenario.seq
    assert found.estimate.serving.command.startswith(f"vllm serve {LLAMA} --max-model-len {longest}")
    assert report(LLAMA, seq=longest + 16, gpu=("RTX 4090",)).estimate.refused
    assert report(LLAMA, seq="auto").scenario.seq == 131_072
    with pytest.raises(HfmemError, match="--gpu"):
        estimate(model(LLAMA), runtime="vllm", seq="auto")


def test_the_least_of_the_memory() -> None:
    """An embedder keeps no cache: what it needs, and vLLM's margin of 150 MiB, in hundredths."""
    found = estimate(inspect("google-bert/bert-base-uncased", offline=True), runtime="vllm", gpu=("H100",), seq=512)
    least = found.estimate.serving.least_utilization
    assert 0.01 <= least <= 0.05
    again = estimate(
        inspect("google-bert/bert-base-uncased", offline=True),
        runtime="vllm",
        gpu=("H100",),
        seq=512,
        gpu_memory_utilization=least,
    )
    assert again.fits[0].fits
    served = report(LLAMA)
    smallest = served.estimate.serving.least_utilization
    assert not report(LLAMA, gpu_memory_utilization=smallest).estimate.refused
    assert report(LLAMA, gpu_memory_utilization=smallest - 0.02).estimate.refused
