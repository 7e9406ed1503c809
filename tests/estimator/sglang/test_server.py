"""SGLang's rules one by one, with arithmetic by hand from what its source and logs say."""

from __future__ import annotations

import shlex
from functools import cache
from typing import Any

import pytest

from hfmem import estimate, inspect
from hfmem.errors import InvalidScenarioError
from hfmem.preflight.lines import question
from hfmem.units import GIB, MIB

model = cache(lambda name: inspect(name, offline=True))
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
QWEN = "Qwen/Qwen3.5-27B"  # 16 layers of attention, 48 with states
DEEPSEEK = "deepseek-ai/DeepSeek-V3-0324"


def server(name: str, **asked: Any) -> Any:
    asked = {"gpu": ("H100",), "seq": 8192, "sglang_version": "0.5.23"} | asked
    return estimate(model(name), runtime="sglang", **asked)


def terms(report: Any) -> dict[str, int]:
    return {term.name: term.nbytes for term in report.estimate.terms}


def test_a_token_of_the_pool_is_its_keys_and_values() -> None:
    found = server(LLAMA, batch=3)
    assert terms(found)["token pool"] == 3 * 8192 * 32 * 2 * 8 * 128 * 2
    assert found.estimate.kv_cache_per_token == 32 * 2 * 8 * 128 * 2
    assert server(LLAMA, kv_dtype="fp8").estimate.kv_cache_per_token == 32 * 2 * 8 * 128


def test_the_pool_is_what_the_fraction_leaves() -> None:
    """`rest = free after loading - free before × (1 - f)`, and a token for each 131,072 B of it."""
    found = server(LLAMA, mem_fraction_static=0.8)
    parts = terms(found)
    free = found.scenario.gpu.memory - parts["CUDA context"]
    rest = free - int(free * (1 - 0.8)) - found.estimate.group("weights")
    assert abs(found.estimate.serving.kv_pool - rest) <= 1
    assert found.estimate.serving.kv_tokens == rest // 131_072
    assert found.estimate.serving.kv_blocks == found.estimate.serving.kv_tokens
    assert found.estimate.serving.blocks_per_request == 8192


def test_what_the_fraction_leaves_holds_a_step_and_graphs() -> None:
    """A step of 8,192 tokens: gate, up and their product of 14,336 units each, and four streams of 4,096, in 2 B;
    graphs of up to 256 requests at 2 MiB, and of 58 lengths of prefill (8 + 14 + 8 + 8 + 12 + 8) at 8 MiB; rows of 4 B
    for 2,049 requests."""
    step = 8192 * (3 * 14_336 + 4 * 4096) * 2 + (2 * 256 + 8 * 58) * MIB
    found = server(LLAMA, mem_fraction_static=0.99)
    free = found.scenario.gpu.memory - terms(found)["CUDA context"]
    assert free * 0.01 < step
    assert terms(found)["left for activations and CUDA graphs"] == step
    assert found.fits[0].fits is False
    assert "--mem-fraction-static 0.99 leaves" in found.estimate.refused
    most = float(found.estimate.refused.split()[-4])
    assert free * (1 - most) > step + 2049 * 8192 * 4 > free * (1 - most - 0.015)
    assert server(LLAMA, mem_fraction_static=most).fits[0].fits
    assert server(LLAMA, mem_fraction_static=0.97, disable_cuda_graph=True).fits[0].fits


def test_a_long_context_has_a_large_table_of_requests() -> None:
    """4,096 requests at most, and at least 2,048: rows of 131,076 × 4 B are 1 GiB, beside the step of 1.9 GiB."""
    assert server(LLAMA, mem_fraction_static=0.97).fits[0].fits
    assert server(LLAMA, mem_fraction_static=0.97, seq=131_072).fits[0].fits is False


def test_a_request_longer_than_the_limit_of_the_pool_is_rejected() -> None:
    found = server(LLAMA, max_total_tokens=4096)
    assert "a request of 8,192 tokens is longer than the pool of --max-total-tokens 4,096" in found.estimate.refused
    assert found.fits[0].fits is False
    assert found.fits[0].max_seq == 4096
    paged = server(LLAMA, max_total_tokens=8200, page_size=64, seq=8193)
    assert "8,192 in whole pages" in paged.estimate.refused


def test_no_more_requests_than_are_let_run() -> None:
    found = server(LLAMA, max_running_requests=5)
    assert found.fits[0].max_batch == 5
    assert "Of 9 requests, --max-running-requests 5 lets 5 run" in str(
        server(LLAMA, max_running_requests=5, batch=9).estimate.notes
    )
    shared = server(DEEPSEEK, gpu=("8xH200",), tp=8, dp=8, enable_dp_attention=True, max_running_requests=16)
    assert shared.fits[0].max_batch == 2


def test_drafts_let_48_requests_run_and_the_line_says_more() -> None:
    """`speculative_hook.py`: `max_running_requests = 48`, where none is given."""
    asked = {"gpu": ("8xH200",), "tp": 8, "seq": 1024, "speculative_algorithm": "NEXTN"}
    few, many = (server(DEEPSEEK, batch=batch, **asked).estimate.serving for batch in (48, 49))
    assert few.max_concurrency == 48
    assert "--max-running-requests" not in few.command
    assert "--max-running-requests 49" in many.command


def test_experts_on_some_ranks_are_split_over_the_others() -> None:
    """tp = ep × moe_tp: a rank has an eighth of the experts, whole or in parts."""
    asked = {"gpu": ("8xH200",), "tp": 8}
    weights = {server(DEEPSEEK, ep=ep, **asked).estimate.group("weights") for ep in (1, 2, 4, 8)}
    assert len(weights) == 1
    assert "--tp 8 --ep 4" in server(DEEPSEEK, ep=4, **asked).estimate.serving.command
    both = server(DEEPSEEK, ep=4, dp=8, enable_dp_attention=True, **asked).estimate.serving.command
    assert "--tp 8 --dp 8 --ep 4 --enable-dp-attention" in both
    assert "--ep 3 does not divide the 8 tensor-parallel ranks" in server(DEEPSEEK, ep=3, **asked).estimate.refused
    replicas = server(DEEPSEEK, gpu=("8xH200",), tp=2, dp=4, ep=8).estimate
    assert "--ep 8 does not divide the 2 tensor-parallel ranks" in replicas.refused


@pytest.mark.parametrize("asked", [{"dp": 8}, {"tp": 4, "dp": 8}, {"tp": 8, "dp": 3}])
def test_replicas_of_attention_share_the_ranks(asked: dict[str, int]) -> None:
    """`assert cfg.tp_size % cfg.attn_dp_size == 0` (parallel_hook.py)."""
    with pytest.raises(InvalidScenarioError) as caught:
        server(DEEPSEEK, gpu=("8xH200",), enable_dp_attention=True, **asked)
    assert "needs a --tp that is a multiple of --dp" in caught.value.reason


def test_a_limit_and_pages() -> None:
    assert server(LLAMA, max_total_tokens=20_000).estimate.serving.kv_tokens == 20_000
    paged = server(LLAMA, max_total_tokens=20_000, page_size=64, chunked_prefill_size=2048).estimate.serving
    assert (paged.kv_tokens, paged.kv_blocks, paged.blocks_per_request) == (19_968, 312, 128)


def test_a_slot_of_states_is_72_mib_in_two_bytes() -> None:
    """Logs of Qwen3.8-27B, of the same sizes: 72 MiB in bfloat16, 144 in float32, 2.81 of convolutions."""
    conv = 48 * 3 * (2 * 16 * 128 + 48 * 128) * 2
    for dtype, width in (("bfloat16", 2), ("float32", 4)):
        found = server(QWEN, gpu=("B200",), mamba_ssm_dtype=dtype, max_mamba_cache_size=16)
        assert terms(found)["states"] == (16 + 1) * (48 * 48 * 128 * 128 * width + conv)


def test_states_and_tokens_share_by_the_ratio() -> None:
    found = server(QWEN, gpu=("B200",), mamba_full_memory_ratio=0.5)
    serving, slot = found.estimate.serving, 48 * (3 * 10_240 * 2 + 48 * 128 * 128 * 4)
    states = serving.kv_pool - serving.kv_tokens * 65_536
    assert states / serving.kv_pool == pytest.approx(1 / 3, abs=2 * slot / serving.kv_pool)


def test_drafts_have_tokens_and_states() -> None:
    """Logs of Qwen3.8-27B with 64 requests and 4 drafted tokens: 18.28 GiB of states, and 0.36 of convolutions."""
    asked = {"gpu": ("B300",), "max_running_requests": 64, "max_mamba_cache_size": 256, "mamba_ssm_dtype": "bfloat16"}
    asked |= {"mamba_scheduler_strategy": "extra_buffer_lazy", "speculative_algorithm": "EAGLE"}
    found = server(QWEN, speculative_num_draft_tokens=4, **asked)
    assert terms(found)["states of drafts"] / GIB == pytest.approx(18.64, abs=0.01)
    assert terms(found)["states"] / GIB == pytest.approx(18.78, abs=0.01)
    assert found.estimate.kv_cache_per_token == 65_536 + 4096


def test_windows_have_a_pool_of_their_own_where_the_class_is_listed() -> None:
    new, old = (server("google/gemma-4-26B-A4B", sglang_version=v, kv_dtype="bfloat16") for v in ("0.5.23", "0.5.8"))
    full, sliding = 5 * 2 * 512 * 2 * 2, 25 * 8 * 256 * 2 * 2
    assert new.estimate.kv_cache_per_token == round(full + 0.8 * sliding)
    assert old.estimate.kv_cache_per_token == full + sliding


def test_replicas_of_attention_hold_whole_attention() -> None:
    """sgl-project/sglang#22864: 91.58 GiB a rank on 8 × H200 with replicas of attention."""
    asked = {"gpu": ("8xH200",), "tp": 8}
    whole = server(DEEPSEEK, dp=8, enable_dp_attention=True, **asked)
    assert whole.estimate.group("weights") / GIB == pytest.approx(91.58, rel=0.005)
    assert whole.scenario.parallel.gpus == 8
    assert "--tp 8 --dp 8 --enable-dp-attention" in whole.estimate.serving.command
    assert server(DEEPSEEK, **asked).estimate.group("weights") / GIB == pytest.approx(79.8, rel=0.005)


def test_the_vision_tower_lowers_the_fraction() -> None:
    """Kimi-K2.5 on MI355X logs 0.8260405859375: 0.908 × 0.95 × (1 - 0.1 × (27 × 1152² / (24 × 1024²) - 1))."""
    asked = {"gpu": ("8xMI355X",), "tp": 8, "sglang_version": "0.5.8"}
    found = server("moonshotai/Kimi-K2.5", **asked)
    how = next(term.how for term in found.estimate.terms if term.group == "activations")
    assert "(1 - 0.826)" in how


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"mem_fraction_static": 0.1}, "leave no memory for the KV cache under --mem-fraction-static 0.1"),
        ({"seq": 200_000}, "more than the model's 131,072"),
        ({"kv_dtype": "float32"}, "--kv-cache-dtype float32 does not exist"),
        ({"speculative_algorithm": "NEXTN"}, "needs a model with prediction layers"),
        ({"chunked_prefill_size": 2000, "page_size": 64}, "must be a multiple of --page-size"),
        ({"gpu": ("M3 Max 64GB",)}, "no platform for Apple GPUs"),
    ],
)
def test_what_it_refuses(asked: dict[str, Any], reason: str) -> None:
    found = server(LLAMA, **asked).estimate
    assert reason in found.refused
    assert found.serving is None or found.serving.command is None


def test_too_small_pools_are_refused() -> None:
    windows = server("google/gemma-4-26B-A4B", gpu=("H100",), swa_full_tokens_ratio=0.0001).estimate
    assert "the pool for sliding windows" in windows.refused
    states = server(QWEN, gpu=("H100",), max_mamba_cache_size=2).estimate
    assert "2 slots, and a request takes 3" in states.refused


def test_the_line_says_what_was_asked() -> None:
    line = server(LLAMA, mem_fraction_static=0.85, cuda_graph_max_bs_decode=32, kv_dtype="fp8").estimate.serving.command
    words = shlex.split(line)
    assert words[:5] == ["python", "-m", "sglang.launch_server", "--model-path", LLAMA]
    assert "--cuda-graph-max-bs-decode 32" in line
    assert "--kv-cache-dtype fp8_e4m3" in line
    old = server(LLAMA, cuda_graph_max_bs_decode=32, sglang_version="0.5.8").estimate.serving.command
    assert "--cuda-graph-max-bs 32" in old


@pytest.mark.parametrize("version", ["0.4.10", "0.4", "new"])
def test_releases_that_are_not_known(version: str) -> None:
    with pytest.raises(InvalidScenarioError):
        server(LLAMA, sglang_version=version)


def test_a_batch_that_fits_is_held_by_the_pool() -> None:
    fit = server(LLAMA).fits[0]
    for batch, fits in ((fit.max_batch, True), (fit.max_batch + 1, False)):
        found = server(LLAMA, batch=batch)
        assert (found.estimate.serving.max_concurrency >= batch) == fits
        assert found.fits[0].fits is fits


def test_images_keep_memory_back() -> None:
    found = terms(server("Qwen/Qwen3-VL-4B-Instruct"))
    assert found["cache of images"] == 100 * MIB
    assert "cache of images" not in terms(server("Qwen/Qwen3-VL-4B-Instruct", sglang_version="0.5.17"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            f"python3 -m sglang.launch_server --model-path {LLAMA} --tp-size 2 --mem-fraction-static 0.8 --port 30000",
            ("--tp 2", "--mem-fraction-static 0.8"),
        ),
        (f"sglang serve --model {LLAMA} --context-length 8k --kv-cache-dtype fp8_e4m3", ("--seq 8k", "--kv-dtype fp8")),
        (
            f"python -m sglang.launch_server --model {DEEPSEEK} --tp 8 --dp-size 8 --enable-dp-attention "
            "--trust-remote-code --cuda-graph-max-bs 64",
            ("--tp 8", "--dp 8", "--enable-dp-attention", "--cuda-graph-max-bs 64"),
        ),
    ],
)
def test_launch_lines_are_read(line: str, words: tuple[str, ...]) -> None:
    asked = " ".join(question(line, ()).words)
    assert "--runtime sglang" in asked
    for word in words:
        assert word in asked


GPT_OSS = "openai/gpt-oss-20b"  # 24 layers of 32 experts, 2,880 × 2,880


@pytest.mark.parametrize(
    ("gpu", "version", "inner", "hidden"),
    [
        ("B200", "0.5.23", 2944, 3072),  # FlashInfer: 128 units, 256 of the hidden size
        ("B200", "0.5.16", 3072, 3072),  # 256 units
        ("RTX PRO 6000", "0.5.23", 2944, 3072),
        ("MI300X", "0.5.23", 3072, 3072),
        ("A100 80GB", "0.5.23", 2880, 2880),  # Triton: 64 units
    ],
)
def test_padding_of_experts_is_that_of_the_kernel(gpu: str, version: str, inner: int, hidden: int) -> None:
    """`round_up` in layers/quantization/mxfp4.py::create_weights, and in layers/moe/fused_moe_triton/layer.py."""
    found = server(GPT_OSS, gpu=(gpu,), sglang_version=version, seq=4096)
    stored = 24 * 32 * 3 * 2880 * 2880 * 17 // 32
    assert terms(found).get("padding of experts", 0) == stored * inner * hidden // 2880**2 - stored


def test_experts_in_tritons_layouts_on_hopper() -> None:
    """As in vLLM, whose log on two H100 says 7.01 GiB of weights: the same kernels and layouts."""
    found = server(GPT_OSS, gpu=("2xH100",), tp=2)
    other = estimate(model(GPT_OSS), runtime="vllm", gpu=("2xH100",), tp=2, vllm_version="0.19", seq=4096)
    assert terms(found)["padding of experts"] == terms(other)["padding of experts"] > 0


def test_experts_without_a_kernel_are_unpacked() -> None:
    """Triton's kernel is for `ep_size == 1` (`_gpt_oss_overrides`); else `upcast_from_mxfp` to bfloat16."""
    found = server(GPT_OSS, gpu=("2xH100",), tp=2, ep=2)
    weights = 24 * 32 * 3 * 2880 * 2880
    assert terms(found)["experts in bfloat16"] == (weights * 2 - weights * 17 // 32) // 2


def test_gpt_oss_had_no_pool_for_windows_before_0_5_8() -> None:
    """`disable_hybrid_swa_memory = True` in server_args.py of 0.5.3 to 0.5.7."""
    new, old = (server(GPT_OSS, sglang_version=version, seq=4096).estimate for version in ("0.5.8", "0.5.7"))
    a_layer = 2 * 8 * 64 * 2
    assert old.kv_cache_per_token == 24 * a_layer
    assert new.kv_cache_per_token == round(12 * a_layer * 1.8)


def test_slots_for_adapters() -> None:
    """SGLang's notebook on LoRA of 2026-02-09, two adapters of rank 256 for Llama-3.1-8B on an H100: of 63.41 GiB after
    loading, 58.18 are left after pools of 2.50, with a table of 129 × 131,076 × 4 B (0.06)."""
    layer = 3 * 4096 + (4096 + 2 * 1024) + 2 * 4096 + 3 * 4096 + 3 * 14_336
    sides = 32 * layer + 2 * (128_256 + 4096)
    asked = {"enable_lora": True, "max_loras_per_batch": 2, "max_lora_rank": 256}
    found = server(LLAMA, **asked)
    assert terms(found)["LoRA slots"] == 2 * 256 * sides * 2
    assert terms(found)["LoRA slots"] / GIB == pytest.approx(63.41 - 58.18 - 2.50 - 0.06, abs=0.1)
    line = found.estimate.serving.command
    assert "--max-loras-per-batch 2 --max-lora-rank 256 --enable-lora --lora-target-modules all" in line
    assert found.estimate.serving.kv_pool == server(LLAMA).estimate.serving.kv_pool - terms(found)["LoRA slots"]
    assert terms(server(LLAMA, enable_lora=True, max_lora_rank=16))["LoRA slots"] == 8 * 16 * sides * 2


def test_slots_for_adapters_on_ranks() -> None:
    """Row-parallel modules divide inputs, the others outputs; the embedding's matrices are whole."""
    asked = {"enable_lora": True, "max_lora_rank": 16, "tp": 2, "gpu": ("2xH100",)}
    layer = 3 * 4096 + (4096 + 2 * 1024) // 2 + 4096 // 2 + 4096 + 2 * (4096 + 7168) + 7168 + 4096
    sides = 32 * layer + 128_256 + 4096 + 4096 + 64_128
    assert terms(server(LLAMA, **asked))["LoRA slots"] == 8 * 16 * sides * 2


def test_slots_for_adapters_of_experts() -> None:
    """48 layers of 128 experts of 2,048 × 768."""
    found = server("Qwen/Qwen3-30B-A3B", enable_lora=True, max_loras_per_batch=1, max_lora_rank=8)
    attention = 48 * (3 * 2048 + 4096 + 2 * 512 + 4096 + 2048)
    sides = attention + 48 * 128 * 3 * (2048 + 768) + 2 * (151_936 + 2048)
    assert terms(found)["LoRA slots"] == 8 * sides * 2


def test_adapters_need_a_rank() -> None:
    """`assert cfg.lora_paths or (cfg.max_lora_rank and cfg.lora_target_modules)` (lora_hook.py)."""
    assert "--enable-lora needs --max-lora-rank" in server(LLAMA, enable_lora=True).estimate.refused
    with pytest.raises(InvalidScenarioError):
        server(LLAMA, max_lora_rank=16)


def test_towers_of_plain_layers_are_on_every_rank() -> None:
    """models/kimi_vl_moonvit.py has `nn.Linear` up to 0.5.15, and ColumnParallelLinear since."""
    asked: dict[str, Any] = {"gpu": ("8xH200",), "tp": 8}
    name = "vision tower on every rank"
    old, new = (
        server("moonshotai/Kimi-K2.5", sglang_version=version, **asked).estimate for version in ("0.5.14", "0.5.16")
    )
    (more,) = (term.nbytes for term in old.terms if term.name == name)
    groups = model("moonshotai/Kimi-K2.5").parameters.groups
    matrices = [each for each in groups if each.component == "vision" and each.linear and len(each.shape) == 2]
    assert more == pytest.approx(sum(each.stored_bytes or 0 for each in matrices) * 7 / 8, rel=0.01)
    assert name not in {term.name for term in new.terms}


def test_packed_experts_keep_indices_of_groups_on_rocm() -> None:
    """60 layers of 384 experts of 7,168 and 256 inputs on a rank of 8, in int32, and their order: three logs of
    Kimi-K2.5 on MI355X have 73.58 GiB of weights a rank."""
    asked: dict[str, Any] = {"tp": 8, "sglang_version": "0.5.8"}
    found = server("moonshotai/Kimi-K2.5", gpu=("8xMI355X",), **asked)
    assert terms(found)["group indices of experts"] == 2 * 60 * 384 * (7168 + 256) * 4
    assert found.estimate.group("weights") / GIB == pytest.approx(73.58, rel=0.005)
    for gpu, version, there in (("8xH200", "0.5.23", False), ("8xB200", "0.5.23", True), ("8xB200", "0.5.18", False)):
        other = server("moonshotai/Kimi-K2.5", gpu=(gpu,), **(asked | {"sglang_version": version}))
        assert ("group indices of experts" in terms(other)) == there


def test_images_of_a_step_run_in_what_is_left() -> None:
    """managers/mm_schedule.py: a single call for all images of a step. 16,384 tokens an image, in a step of 8,192
    tokens there is one: 65,536 patches of Qwen2.5-VL's tower, whose widest point as measured on the class has
    34 x 1,280 B and more of a patch, and pixels in float32, 4 B x 1,176. What is left of an H100 has room for that,
    3 % of it has not."""
    name, asked = "Qwen/Qwen2.5-VL-7B-Instruct", {"seq": 20_000, "images": 1, "image_size": "3584x3584"}
    plain, seen = server(name, seq=20_000), server(name, **asked)
    left = "left for activations and CUDA graphs"
    assert not seen.estimate.unknown
    assert terms(seen)[left] == terms(plain)[left]
    tight = server(name, mem_fraction_static=0.97, disable_cuda_graph=True, chunked_prefill_size=2048, **asked)
    patch = 34 * 1280 + 8 * 80 + 2 * 1176 + 18 + 4 * 1176
    assert terms(tight)[left] == 65_536 * patch + 20
    many = server(name, mem_fraction_static=0.97, disable_cuda_graph=True, chunked_prefill_size=32_768, **asked)
    assert terms(many)[left] == 2 * 65_536 * patch + 20


def test_videos_are_a_lower_bound() -> None:
    found = server("Qwen/Qwen2.5-VL-7B-Instruct", video_frames=8, image_size="560x560").estimate
    assert [group for group, _ in found.unknown] == ["activations"]
