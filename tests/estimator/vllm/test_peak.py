"""Terms of vLLM's profile run and of its cache, each against arithmetic that is done by hand from the line it is of."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from hfmem import estimate, inspect
from hfmem.engines.vllm.cachespec import Dtypes, States, layout
from hfmem.engines.vllm.formats import formats_of
from hfmem.engines.vllm.groups import Spec
from hfmem.engines.vllm.states import Kept
from hfmem.mapper.caches import KV, Cache, Indexed, Latent, State
from hfmem.mapper.values import Dense, Layer
from hfmem.units import MIB
from hfmem.unknown import Unknown

model = cache(lambda name: inspect(name, offline=True))
QWEN_VL = "Qwen/Qwen2.5-VL-7B-Instruct"
LLAMA, MIXTRAL, GEMMA = "meta-llama/Llama-3.1-8B-Instruct", "mistralai/Mixtral-8x7B-v0.1", "google/gemma-3-27b-it"
DENSE = Dense(intermediate=1, gated=True)
ONE = Kept(mode="none", pages=1)
HIDDEN, UNITS, VOCABULARY = 4096, 14336, 128256
"""Of Llama-3.1-8B."""


def server(name: str, **asked: Any) -> Any:
    return estimate(model(name), runtime="vllm", **({"gpu": ("H100",), "seq": 4096, "vllm_version": "0.19"} | asked))


def terms(name: str, rank: int | None = None, **asked: Any) -> dict[str, int]:
    """Bytes of the terms by name, of the most loaded rank or of one of them."""
    found = server(name, **asked).estimate
    return {term.name: term.nbytes for term in (found.terms if rank is None else found.ranks[rank].terms)}


@pytest.mark.parametrize(
    ("version", "rows", "drawing"),
    [
        ("0.16", 1, 4 + 8),
        ("0.16", 2, 4 + 8 + (8 + 8 + 4) + (4 + 8)),
        ("0.16", 127, 4 + 8 + (8 + 8 + 4) + (4 + 8)),
        ("0.16", 128, 4 + 8 + 8 + (4 + 8)),
        ("0.16", 256, 4 + 8 + 8 + (4 + 8)),
        ("0.19", 7, 4 + 8 + (8 + 8 + 4) + (4 + 8)),
        ("0.19", 8, 4 + 4),
        ("0.19", 256, 4 + 4),
    ],
)
def test_what_the_sampler_holds_of_a_logit(version: str, rows: int, drawing: int) -> None:
    """Logits in 2 B and in float32; a sort gives float32 values and int64 indices. PyTorch's SortStable.cu sorts less
    than 128 rows together: two lists of int2 and sorted keys, and the second buffer of keys and values of the radix
    sort; more of them by segments: int64 indices, and a second buffer as before. The Triton kernel takes 8 rows and
    more (topk_topp_triton.py): float32 probabilities, and noise as large."""
    tokens = max(16, rows)  # so few that the forward pass takes less
    found = terms(LLAMA, vllm_version=version, max_num_seqs=rows, max_num_batched_tokens=tokens)
    assert found["sampler"] == rows * VOCABULARY * (2 + 4 + drawing)
    assert found["hidden states"] == (tokens + 2 * rows) * HIDDEN * 2


@pytest.mark.parametrize(("card", "rows", "programs"), [("H100", 256, 132), ("A100", 256, 108), ("H100", 64, 64)])
def test_each_multiprocessor_has_a_row_of_scratch(card: str, rows: int, programs: int) -> None:
    """topk_topp_triton.py: min(number of multiprocessors, rows) programs, each with a row in float32. An H100 SXM has
    132 multiprocessors, an A100 108 (NVIDIA's architecture papers)."""
    found = terms(LLAMA, gpu=(card,), max_num_seqs=rows, max_num_batched_tokens=256)
    assert found["top-k scratch"] == programs * VOCABULARY * 4


@pytest.mark.parametrize(
    ("name", "asked", "each"),
    [
        (LLAMA, {}, 3 * UNITS + 4 * HIDDEN),
        (LLAMA, {"tp": 2}, 3 * UNITS // 2 + 4 * HIDDEN),
        ("openai-community/gpt2", {"seq": 1024}, 2 * 3072 + 4 * 768),  # no gate
        ("Qwen/Qwen1.5-MoE-A2.7B", {}, 3 * 5632 + 4 * 2048),  # the shared expert's units
    ],
)
def test_the_widest_point_of_a_layer(name: str, asked: dict[str, Any], each: int) -> None:
    """The residual stream before and after attention, its output and the normalised states; gate, up, product."""
    found = terms(name, **asked, max_num_seqs=1, max_num_batched_tokens=8192)
    assert found["forward pass"] == 8192 * each * 2


def test_stages_hand_on_hidden_states_and_residual() -> None:
    """v1/worker/gpu_model_runner.py: `IntermediateTensors` of hidden_states and residual, which the first stage makes
    and the others receive."""
    first, last = (terms(LLAMA, rank, pp=2, max_num_seqs=1, max_num_batched_tokens=8192) for rank in (0, 1))
    assert first["forward pass"] == 8192 * (3 * UNITS + (4 + 2) * HIDDEN) * 2
    assert last["forward pass"] == 8192 * (3 * UNITS + 4 * HIDDEN) * 2
    assert "intermediate tensors" not in first
    assert last["intermediate tensors"] == 2 * 8192 * HIDDEN * 2


@pytest.mark.parametrize(("asked", "rows", "units"), [
    ({}, 1, UNITS), ({"tp": 2}, 1, UNITS // 2), ({"tp": 8}, 1, UNITS // 8), ({"dp": 2}, 2, UNITS // 2),
    ({"dp": 2, "ep": 2}, 2, UNITS),
])  # fmt: skip
def test_the_scratch_of_fused_experts(asked: dict[str, Any], rows: int, units: int) -> None:
    """model_executor/layers/fused_moe/fused_moe.py::workspace_shapes: M × topk × max(N // 2, K) and
    M × topk × max(N, K), where N is both halves of the experts' units. Mixtral: 2 of 8 experts of 14,336 units."""
    found = terms(MIXTRAL, **asked, max_num_seqs=1, max_num_batched_tokens=2048)
    assert found["experts' scratch"] == rows * 2048 * 2 * (max(units, HIDDEN) + max(2 * units, HIDDEN)) * 2


def test_older_releases_free_the_scratch() -> None:
    asked = {"max_num_seqs": 256, "max_num_batched_tokens": 256}
    assert "experts' scratch" in terms(MIXTRAL, vllm_version="0.13", **asked)
    found = terms(MIXTRAL, vllm_version="0.12", **asked)
    assert ("experts' scratch" in found) == ("forward pass" in found)


@pytest.mark.parametrize(
    ("card", "nbytes"),
    [("H100", 32 * MIB), ("B200", 32 * MIB), ("RTX 5090", 32 * MIB), ("A100", (4096 * 2 + 16 * 8) * 1024)],
)
def test_the_workspace_of_cublas(card: str, nbytes: int) -> None:
    """docs.pytorch.org, CUBLAS_WORKSPACE_CONFIG: 32 MiB on sm90, else `:4096:2:16:8`, two of 4 MiB and eight of
    16 KiB."""
    assert terms(LLAMA, gpu=(card,))["cuBLAS workspace"] == nbytes


def test_what_the_encoder_leaves_stays_while_the_language_model_runs() -> None:
    """v1/worker/gpu_model_runner.py::profile_run: features and pixels of as many images as a step holds, in 2 B.
    gemma-3-27b has 5,376 units, and images of 896 x 896 pixels that become 256 tokens."""
    kept = 4096 * 5376 * 2 + 16 * 3 * 896 * 896 * 2
    assert terms(GEMMA, max_num_batched_tokens=4096)["encoder outputs"] == kept
    assert "encoder outputs" not in terms(LLAMA)


def test_a_budget_below_an_image_holds_one() -> None:
    """compute_mm_encoder_budget: at least the tokens of the largest item."""
    found = terms(GEMMA, max_num_batched_tokens=128, max_num_seqs=128)
    assert found["encoder outputs"] == 256 * 5376 * 2 + 3 * 896 * 896 * 2


def test_limits_of_zero_leave_the_encoder_out() -> None:
    """MultiModalBudget: no kind, no budget."""
    assert "encoder outputs" not in terms(GEMMA, limit_mm_per_prompt='{"image": 0}')
    assert "encoder outputs" not in terms(QWEN_VL, limit_mm_per_prompt='{"image": 0, "video": 0}')
    assert "encoder outputs" in terms(QWEN_VL, limit_mm_per_prompt='{"image": 0}')


def test_the_encoder_can_be_the_peak() -> None:
    """Sixteen images of 4,096 patches of SigLIP, 1,152 and 4,304 wide, above a small language model: each patch has its
    residual, its input and the two sides of the feed-forward, in 2 B."""
    found = terms("google/gemma-3-4b-it", max_num_batched_tokens=4096, max_num_seqs=16)
    least = 16 * 4096 * (2 * 1152 + 2 * 1152 + 2 * 2 * 4304) * 2 // 2
    assert least < found["encoder's profile"] < 2 * least


@pytest.mark.parametrize(
    ("kind", "window", "batched", "length", "pages"),
    [
        ("full", 0, 2048, 4096, 256),
        ("full", 0, 2048, 4097, 257),
        ("sliding", 1025, 1024, 8192, 2048 // 16 + 1),
        ("sliding", 1026, 1024, 8192, 2048 // 16 + 1 + 1),
        ("sliding", 1024, 8192, 512, 512 // 16 + 1),
        ("chunked", 1024, 1024, 8192, 2048 // 16),
        ("chunked", 1025, 1024, 8192, 2048 // 16 + 1),
        ("chunked", 8192, 1024, 512, 512 // 16),
        ("cross", 0, 2048, 448, 2048 // 16),
    ],
)
def test_pages_of_a_request(kind: Any, window: int, batched: int, length: int, pages: int) -> None:
    """v1/kv_cache_interface.py, max_memory_usage_bytes: a window min(window - 1 + batched, length) tokens, and a page
    more because it need not begin at one; chunks min(chunk + batched, length) tokens."""
    settings = server(LLAMA, max_num_batched_tokens=batched).scenario.serving
    assert (
        Spec(kind=kind, block=16, page=1, window=window, ahead=settings.max_num_batched_tokens).pages(length, settings)
        == pages
    )


LATENT = Latent(rank=512, rope_dim=64, heads=128, key_dim=192, value_dim=128)


@pytest.mark.parametrize(
    ("kept", "dtype", "pages"),
    [
        (LATENT, "bfloat16", [16 * (512 + 64) * 2]),
        (LATENT, "float8_e4m3fn", [16 * (512 + 64)]),
        (Indexed(attention=LATENT, index_dim=128), "bfloat16", [16 * (512 + 64) * 2 + 16 * (128 + 4)]),
        (Indexed(attention=LATENT, index_dim=128), "float8_e4m3fn", [16 * (512 + 4 * 4 + 64 * 2) + 16 * (128 + 4)]),
        (State(conv=4 * 1000, recurrent=5000), "bfloat16", [3 * 1000 * 2 + 5000 * 4]),
    ],
)
def test_pages_of_latents_and_states(kept: Cache, dtype: str, pages: list[int]) -> None:
    """DeepSeek-V3.2's latents in FP8 (fp8_ds_mla): 512 B of values, four float32 scales, 64 rotary elements in 2 B; the
    indexer's keys 128 B and a float32 scale. A convolution of 4 keeps 3 (mamba_utils.py: conv_kernel - 1)."""
    layer = Layer(kind="full_attention", cache=kept, heads=1, ffn=DENSE)
    settings = server(LLAMA).scenario.serving
    dtypes = Dtypes(kv=dtype, compute="bfloat16", state="float32")
    found = layout((layer,), settings, dtypes, States(kept=ONE, conv_kernel=4), 8192)
    assert not isinstance(found, Unknown)
    assert [found.block_bytes] == pages
    assert found.block == (1 if isinstance(kept, State) else 16)  # a state is of any number of tokens


@pytest.mark.parametrize(("windows", "whole", "width", "groups"), [(13, 12, 13, 2), (17, 12, 17, 2), (18, 12, 12, 3)])
def test_groups_of_layers_of_unequal_number(windows: int, whole: int, width: int, groups: int) -> None:
    """v1/core/kv_cache_utils.py: the larger number where `max_num_layers < min_num_layers * 1.5`, else the smaller,
    over which the others are divided; gpt-oss with a draft layer, 13 and 12, is its own example."""
    layers = tuple(
        Layer(kind=kind, cache=KV(heads=8, key_dim=64, value_dim=64, window=window), heads=8, ffn=DENSE)
        for kind, window, count in (("sliding_attention", 128, windows), ("full_attention", None, whole))
        for _ in range(count)
    )
    dtypes = Dtypes(kv="bfloat16", compute="bfloat16", state=None)
    found = layout(layers, server(LLAMA).scenario.serving, dtypes, States(kept=ONE), 8192)
    assert not isinstance(found, Unknown)
    assert (found.width, len(found.groups)) == (width, groups)


def test_the_smallest_pool_of_all_stages_counts() -> None:
    """v1/worker/gpu_worker.py::determine_available_memory: what of the requested memory weights, the peak of
    activations and the libraries leave; all workers take the blocks of the one with the fewest."""
    report = server(LLAMA, pp=2)
    taken = [
        sum(
            term.nbytes
            for term in rank.terms
            if term.group in ("weights", "activations") or term.name == "libraries, during the profile run"
        )
        for rank in report.estimate.ranks
    ]
    assert taken[0] != taken[1]
    assert report.estimate.serving.kv_pool == report.scenario.gpu.memory * 9 // 10 - max(taken)


def test_the_recipe_that_leaves_most_decides_the_pool() -> None:
    """Tools that write 4-bit files of a mixture leave different matrices unquantised: the pool is what the largest of
    them leaves, though another would leave more."""
    report = server("Qwen/Qwen3-30B-A3B", dtype="int4")
    found = report.estimate
    assert found.spared > 0
    outside = ("CUDA context", "CUDA graphs", "CUDA graphs, beyond the profile")
    taken = sum(term.nbytes for term in found.terms if term.group != "kv_cache" and term.name not in outside)
    assert found.serving.kv_pool == report.scenario.gpu.memory * 9 // 10 - taken


def test_no_more_sequences_than_tokens_of_a_step() -> None:
    """config/scheduler.py: max_num_batched_tokens has to be at least max_num_seqs."""
    assert server(LLAMA, max_num_batched_tokens=100).scenario.serving.max_num_seqs == 100


@pytest.mark.parametrize(("asked", "gib"), [({}, 0.25), ({"pp": 2}, 0.07), ({"tp": 2}, 2.1), ({"tp": 4}, 2.15)])
def test_what_libraries_take_during_the_profile_run(asked: dict[str, Any], gib: float) -> None:
    """Start-up logs of vLLM 0.19 (llm-d-planner, accuracy/results), non-torch forward increase: 0.25 GiB on one GPU,
    0.07 in a pipeline, 2.06 to 2.21 with tensor parallelism."""
    found = server(LLAMA, **asked).estimate.terms
    assert sum(term.nbytes for term in found if term.kind == "libraries") / 2**30 == pytest.approx(gib, abs=0.1)


def test_the_rest_of_a_segment() -> None:
    """c10/cuda/CUDACachingAllocator.cpp: 10 MiB and more take a segment of their own, in steps of 2 MiB, and a rest of
    up to 1 MiB is not split off. Qwen2.5-7B in 2 B, 3,584 units: of 28 layers, q, k, v (4,608 rows) 15¾ steps, gate and
    up (37,888) 129½, down (18,944) 64¾, each of which the last is not full; the output (3,584) 12¼, whose rest is split
    off; 152,064 words, in the embedding and the head, 519¾."""
    found = terms("Qwen/Qwen2.5-7B-Instruct")["allocator's rounding"]
    assert found == 28 * (MIB // 2 + MIB + MIB // 2) + 2 * (MIB // 2)


@pytest.mark.parametrize("tp", [1, 4])
def test_projections_of_latents_are_kept_twice(tp: int) -> None:
    """model_executor/layers/attention/mla_attention.py: W_UK_T and W_UV beside kv_b_proj, of a rank's heads. In
    DeepSeek-V3, 61 layers have 128 heads of 128 and 128 without the rotary part, from latents of 512."""
    found = terms("deepseek-ai/DeepSeek-V3", tp=tp)
    assert found["latent projections"] == 61 * 128 // tp * (128 + 128) * 512 * 2
    assert "latent projections" not in terms(LLAMA)


def test_the_table_of_rotary_positions_is_one() -> None:
    """model_executor/layers/rotary_embedding: cos and sin of half of a head's 128 each, a row a position, in 2 B."""
    assert terms(LLAMA)["rotary table"] == 131_072 * 128 * 2
    assert "rotary table" not in terms("openai-community/gpt2", seq=1024)


@pytest.mark.parametrize(("release", "refused"), [((0, 16), False), ((0, 17), True), ((0, 19), True)])
def test_deprecated_formats_are_refused(release: tuple[int, int], refused: bool) -> None:
    """config/model.py: `DEPRECATED_QUANTIZATION_METHODS` needs --allow-deprecated-quantization."""
    found = [row.reason for row in formats_of(release) if row.methods == ("fbgemm_fp8",) and not row.hardware]
    assert any("--allow-deprecated-quantization" in reason for reason in found) is refused


@pytest.mark.parametrize("kv_dtype", [None, "fp8"])
def test_nothing_is_sized_in_an_unknown_dtype(kv_dtype: str | None) -> None:
    """Neither the file nor a header tells: a cache of its own dtype does not make the rest known."""
    whole = model(LLAMA)
    assert whole.parameters is not None
    groups = tuple(replace(group, dtype=None) for group in whole.parameters.groups)
    architecture, table = replace(whole.architecture, dtype=None), replace(whole.parameters, groups=groups)
    untold = replace(whole, architecture=architecture, stored_dtype=None, parameters=table)
    found = estimate(untold, runtime="vllm", gpu=("H100",), seq=4096, kv_dtype=kv_dtype).estimate
    assert [group for group, _ in found.unknown] == ["weights", "activations", "kv_cache"]
    assert not any(term.group in ("weights", "activations", "kv_cache") for term in found.terms)


@pytest.mark.parametrize(("tp", "name", "each"), [
    (1, LLAMA, 32 * 2 * 8 * 128 * 2),
    (2, LLAMA, 32 * 2 * 4 * 128 * 2), (16, LLAMA, 32 * 2 * 128 * 2), (1, GEMMA, 10 * 2 * 16 * 128 * 2),
])  # fmt: skip
def test_what_a_further_token_costs(tp: int, name: str, each: int) -> None:
    """Keys and values of each layer that keeps all tokens: of gemma-3-27b each sixth of 62; the others have a window of
    1,024. Of 8 heads of keys, each of 16 ranks has one."""
    assert server(name, tp=tp, seq=8192, max_num_batched_tokens=2048).estimate.kv_cache_per_token == each
