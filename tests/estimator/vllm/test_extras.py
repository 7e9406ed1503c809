"""What a server does besides: adapters, offloading and the like, against arithmetic by hand and logs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from hfmem import HfmemError, estimate, inspect
from hfmem.units import GIB, MIB
from tests.command import run
from tests.mapper.test_adapted import BASE, CONFIG, saved

model = cache(lambda name: inspect(name, offline=True))
LLAMA, MIXTRAL = "meta-llama/Llama-3.1-8B-Instruct", "mistralai/Mixtral-8x7B-Instruct-v0.1"


def server(name: str, **asked: Any) -> Any:
    return estimate(model(name), runtime="vllm", **({"gpu": ("H100",), "seq": 8192, "vllm_version": "0.27"} | asked))


def terms(name: str, **asked: Any) -> dict[str, int]:
    return {term.name: term.nbytes for term in server(name, **asked).estimate.terms}


@pytest.mark.parametrize(("loras", "rank", "gib"), [(1, 16, 0.086), (4, 64, 1.376)])
def test_slots_of_adapters(loras: int, rank: int, gib: float) -> None:
    """Llama-3-8B: what a server's weights grow by."""
    found = terms("meta-llama/Meta-Llama-3-8B", enable_lora=True, max_loras=loras, max_lora_rank=rank)
    assert found["LoRA slots"] / GIB == pytest.approx(gib, abs=0.0005)


def test_slots_by_hand() -> None:
    """A layer of Llama-3.1-8B: three slices that read 4,096 and write 4,096 + 2 × 1,024; 4,096 both ways; two that
    write 14,336; and back. The embedding and the head once."""
    layer = 3 * 4096 + 4096 + 2 * 1024 + 2 * 4096 + 2 * 4096 + 2 * 14336 + 14336 + 4096
    both = 2 * (128256 + 4096)
    assert terms(LLAMA, enable_lora=True)["LoRA slots"] == 16 * (32 * layer + both) * 2
    # column-parallel outputs and row-parallel inputs are split, the rest is not
    half = 3 * 4096 + (4096 + 2 * 1024) // 2 + 2048 + 4096 + 2 * 4096 + 14336 + 7168 + 4096
    assert terms(LLAMA, enable_lora=True, tp=2)["LoRA slots"] == 16 * (32 * half + both) * 2


def test_slots_of_experts() -> None:
    """lora/layers/fused_moe.py: 8 experts of three slices, since 0.13; the intermediate size is split."""
    old, new = (terms(MIXTRAL, enable_lora=True, vllm_version=version)["LoRA slots"] for version in ("0.10", "0.19"))
    assert new - old == 16 * 32 * 8 * 3 * (4096 + 14336) * 2


@pytest.mark.parametrize("tp", [2, 4, 8])
@pytest.mark.parametrize(
    ("name", "layers", "experts", "hidden", "inner"),
    [
        ("mistralai/Mixtral-8x7B-v0.1", 32, 8, 4096, 14336),
        ("Qwen/Qwen3-235B-A22B", 94, 128, 4096, 1536),  # an expert is narrower than the hidden size
    ],
)
def test_ranks_divide_the_inner_side_of_experts_only(
    name: str, layers: int, experts: int, hidden: int, inner: int, tp: int
) -> None:
    """`w13_lora_a` and `w2_lora_b` of every expert have the hidden size on each rank, `w13_lora_b` and `w2_lora_a` the
    rank's part of the intermediate size (vLLM, lora/layers/fused_moe.py::FusedMoEWithLoRA)."""

    def slots(ranks: int) -> int:
        """What those of experts add, with what a release adds for the vocabulary, which is not divided."""
        asked = {"enable_lora": True, "tp": ranks}
        old, new = (terms(name, **asked, vllm_version=version)["LoRA slots"] for version in ("0.10", "0.19"))
        return new - old

    assert slots(1) - slots(tp) == 16 * layers * experts * 3 * (inner - inner // tp) * 2
    assert slots(tp) >= 16 * layers * experts * 3 * (hidden + inner // tp) * 2


def test_a_class_without_embedding_modules_has_slots_for_matrices_only() -> None:
    layer = 3 * 3584 + 3584 + 2 * 512 + 2 * 3584 + 2 * 3584 + 2 * 18944 + 18944 + 3584
    assert terms("Qwen/Qwen2.5-7B-Instruct", enable_lora=True)["LoRA slots"] == 16 * 28 * layer * 2


def test_graphs_are_captured_with_and_without_adapters() -> None:
    """cudagraph_specialize_lora, on by default."""
    without, both = (terms(LLAMA, enable_lora=on)["CUDA graphs"] for on in (False, True))
    assert both > 1.5 * without


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"max_loras": 2}, "--max-loras needs --enable-lora"),
        ({"enable_lora": True, "max_lora_rank": 17}, "--max-lora-rank is none that vLLM accepts: 1, 8, 16"),
        ({"request_mix": ("1000",), "gpu": ("H100",)}, "is not PROMPT"),
        ({"request_mix": ("0+0",), "gpu": ("H100",)}, "is not PROMPT"),
        ({"spec_model": "x/y"}, "--spec-model needs --spec-method"),
        ({"spec_tokens": 3}, "--spec-tokens needs --spec-method"),
        ({"cpu_offload_gb": -1}, "--cpu-offload-gb"),
    ],
    ids=str,
)
def test_what_makes_no_sense(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(HfmemError, match=told.replace("(", r"\(").replace("+", r"\+")):
        estimate(model(LLAMA), runtime="vllm", **asked)


def test_offloaded_weights() -> None:
    """offloader/uva.py: parameters of the layers, one after another, until so much is moved: 14 GiB of DeepSeek-V2-Lite
    end within a layer's experts, which are one parameter. What is left fits a card of 24 GB
    (github.com/vllm-project/vllm/issues/15871)."""
    asked: dict[str, Any] = {"gpu": ("RTX 4090",), "enforce_eager": True, "seq": 32_768}
    without, moved = (server("deepseek-ai/DeepSeek-V2-Lite", cpu_offload_gb=gib, **asked) for gib in (None, 14))
    (term,) = moved.estimate.host
    assert 14 * GIB <= term.nbytes <= 14 * GIB + 64 * 2 * 1408 * 2048 * 2
    assert without.estimate.group("weights") - moved.estimate.group("weights") == term.nbytes
    assert without.estimate.serving.refused
    assert moved.fits[0].fits is True
    assert "--cpu-offload-gb 14" in moved.estimate.serving.command


def test_no_more_than_the_layers_is_offloaded() -> None:
    """Embedding, head and the last norm stay."""
    found = server(LLAMA, cpu_offload_gb=100).estimate
    left = 2 * 128256 * 4096 * 2
    assert found.group("weights") == pytest.approx(left, rel=0.02)


def test_each_rank_offloads_as_much() -> None:
    (term,) = server(LLAMA, tp=2, cpu_offload_gb=2).estimate.host
    assert term.nbytes == pytest.approx(4 * GIB, rel=0.05)


def test_blocks_in_host_memory() -> None:
    """config/cache.py: the size is that of all ranks."""
    found = server(LLAMA, tp=2, kv_offloading_size=32).estimate
    (term,) = found.host
    assert (term.group, term.nbytes) == ("kv_cache", 32 * GIB)
    assert "0.11 and later" in server(LLAMA, kv_offloading_size=32, vllm_version="0.10").estimate.refused


def test_an_adapter_gets_its_slot(tmp_path: Path) -> None:
    """PEFT's adapter has float32 weights for the modules that it changes; vLLM's slot has room for all modules, of the
    next rank that it knows, in the base's dtype: SmolLM2's 30 layers of 576, three KV heads of 64, 1,536."""
    asked: dict[str, Any] = {"runtime": "vllm", "gpu": ("RTX 4090",), "offline": True, "vllm_version": "0.27"}
    path = saved(tmp_path / "lora", CONFIG | {"r": 9})
    found = estimate(path, **asked)
    base = estimate(BASE, **asked, enable_lora=True, max_lora_rank=16)
    layer = 3 * 576 + 576 + 2 * 192 + 2 * 576 + 2 * 576 + 2 * 1536 + 1536 + 576
    assert base.estimate.group("weights") == found.estimate.group("weights")
    slots = {t.name: t.nbytes for t in found.estimate.terms}["adapter slots"]
    assert slots == 16 * (30 * layer + 2 * (49_152 + 576)) * 2  # a tied head has a slot of its own
    command = found.estimate.serving.command
    assert command.startswith(f"vllm serve {BASE} ")
    assert f"--enable-lora --lora-modules adapter={path}" in command
    wider = estimate(saved(tmp_path / "wide", CONFIG | {"r": 20}), **asked).estimate
    assert "--enable-lora --max-lora-rank 32" in wider.serving.command


def test_adapters_that_are_not_served(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"runtime": "vllm", "gpu": ("RTX 4090",), "offline": True}
    head = {"base_model.model.lm_head.weight": np.zeros((49_152, 576), np.float32)}
    copies = saved(tmp_path / "copies", CONFIG | {"modules_to_save": ["lm_head"]}, head)
    assert "whole copies of modules" in estimate(copies, **asked).estimate.refused
    other = saved(tmp_path / "other", CONFIG | {"peft_type": "LOHA"})
    assert "LoRA adapters only" in estimate(other, **asked).estimate.refused


QWEN, DEEPSEEK = "Qwen/Qwen3.5-27B", "deepseek-ai/DeepSeek-V3"


def test_pages_of_drafted_tokens() -> None:
    """github.com/noonghunna/club-3090/pull/594: Qwen3.6-27B in FP8 with three tokens of MTP on 0.24. A block of the
    pool is 17 layers × 1,638,400 B (the prediction layer is the 17th, and 1,600 tokens hold a state with three columns
    more); a request has 164 pages and 2 + 3 pages for each of three groups of states: 205 / 179 × 262,144 tokens."""
    asked: dict[str, Any] = {"dtype": "fp8", "kv_dtype": "fp8", "tp": 2, "seq": 262_144, "vllm_version": "0.24"}
    asked |= {"gpu": ("RTX 3090",), "gpu_memory_utilization": 0.92, "max_num_seqs": 2, "max_num_batched_tokens": 8192}
    found = server(QWEN, enable_prefix_caching=True, spec_method="mtp", spec_tokens=3, **asked).estimate
    assert found.serving.blocks_per_request == 179
    states = [term for term in found.terms if term.name.startswith("states")]
    assert [term.nbytes for term in states] == [5 * 17 * 1_638_400] * 3
    assert found.serving.kv_blocks == pytest.approx(205, rel=0.06)  # the checkpoint leaves other parts unquantised
    assert "--spec-method mtp --spec-tokens 3" in found.serving.command
    old = server(QWEN, enable_prefix_caching=True, spec_method="mtp", spec_tokens=3, **asked | {"vllm_version": "0.19"})
    assert old.estimate.refused or '"num_speculative_tokens": 3' in old.estimate.serving.command


def test_prediction_layers_are_loaded_without_embedding_and_head() -> None:
    """DeepSeek-V3's layer 61: 14.0 B parameters with a copy of both, of 129,280 × 7,168 each."""
    model_ = model(DEEPSEEK)
    every = sum(group.parameters for group in model_.parameters.groups if group.component == "mtp")
    (term,) = (t for t in server(DEEPSEEK, spec_method="mtp", tp=8).estimate.terms if t.name == "prediction layers")
    alone = every - 2 * 129_280 * 7168
    # FP8, split; the projection of both inputs is bfloat16 and on every rank
    inputs = 7168 * 14_336
    assert term.nbytes == pytest.approx((alone - inputs) / 8 + 2 * inputs, rel=0.015)
    one, with_it = (server(DEEPSEEK, spec_method=way, tp=8).estimate for way in (None, "mtp"))
    assert with_it.kv_cache_per_token == one.kv_cache_per_token * 62 // 61


def test_a_layer_without_compressed_entries_predicts() -> None:
    """DeepSeek-V4: `mtp.0` has a window only, which does not grow with the length."""
    name = "deepseek-ai/DeepSeek-V4-Flash"
    without, drafting = (server(name, tp=8, spec_method=way, gpu=("H200",)).estimate for way in (None, "mtp"))
    assert not drafting.refused
    assert drafting.kv_cache_per_token == pytest.approx(without.kv_cache_per_token, rel=0.02)
    assert drafting.group("kv_cache") >= without.group("kv_cache")


def test_drafts_are_verified_in_the_profile_run() -> None:
    """v1/sample/rejection_sampler.py: two more rows of logits, and two of float32 for each row of the sampler."""
    asked: dict[str, Any] = {"spec_method": "ngram", "spec_tokens": 3}
    without, with_drafts = (terms(LLAMA, **each)["sampler"] for each in ({}, asked))
    assert with_drafts - without == 1024 * 128_256 * (2 * 2 + 8)
    assert "sampler" in terms(LLAMA, **asked)


def test_a_draft_model_is_split_over_the_same_ranks() -> None:
    asked: dict[str, Any] = {"spec_method": "draft_model", "spec_tokens": 5, "offline": True}
    draft = "meta-llama/Llama-3.2-1B-Instruct"
    without, with_draft = (server(LLAMA, tp=2, **each).estimate for each in ({}, asked | {"spec_model": draft}))
    alone = estimate(model(draft), runtime="vllm", tp=2, gpu=("H100",), seq=8192).estimate
    more = with_draft.group("weights") - without.group("weights")
    assert more == pytest.approx(alone.group("weights"), rel=0.02)
    assert with_draft.kv_cache_per_token - without.kv_cache_per_token == alone.kv_cache_per_token
    assert f"--spec-model {draft} --spec-tokens 5" in with_draft.serving.command


@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        (LLAMA, {"spec_method": "mtp"}, "needs a model with prediction layers"),
        (LLAMA, {"spec_method": "ngram"}, "needs --spec-tokens"),
        (LLAMA, {"spec_method": "eagle", "spec_tokens": 2}, "needs --spec-model"),
        (LLAMA, {"spec_method": "ngram", "spec_tokens": 2, "vllm_version": "0.8"}, "0.9 and later"),
    ],
    ids=str,
)
def test_refused_drafts(name: str, asked: dict[str, Any], told: str) -> None:
    assert told in server(name, **asked).estimate.refused


@pytest.mark.parametrize(
    ("gpu", "version", "inner"),
    [
        ("H100", "0.10", 2944),  # Marlin, as PyTorch 2.7 has no Triton kernel for it
        ("A100 80GB", "0.11", 2944),
        ("B200", "0.27", 3072),
        ("B200", "0.28", 2944),
    ],
)
def test_padding_of_experts_is_that_of_the_card(gpu: str, version: str, inner: int) -> None:
    """layers/quantization/mxfp4.py: gpt-oss-20b's experts of 2,880 × 2,880 in multiples of the kernel."""
    found = server("openai/gpt-oss-20b", gpu=(gpu,), vllm_version=version, seq=4096).estimate
    (term,) = (term for term in found.terms if term.name == "padding of experts")
    assert f"({inner} × 3072 / (2880 × 2880) - 1)" in term.how


def test_experts_in_tritons_layouts() -> None:
    """Values of 2,880 inputs in multiples of 128 and of 2 × 1,472 outputs in multiples of 64, scales of 256 rows beside
    those that were loaded, biases in float32: gpt-oss-20b on two H100, whose log says 7.01 GiB of weights."""
    found = server("openai/gpt-oss-20b", tp=2, vllm_version="0.19").estimate
    values = 2944 // 2 * 2944 + 1536 // 2 * 2880
    scales = 90 * 3072 + 90 * 2944 + 46 * 3072 + 46 * 2880
    stored = 24 * 32 * (3 * 1440 * 2880 * 17 // 32)
    (term,) = (term for term in found.terms if term.name == "padding of experts")
    lost = 24 * MIB // 2  # 67.5 MiB of the second matrix's values are in a segment of 68
    assert term.nbytes == 24 * 32 * (values + scales + 2 * (2944 + 2880)) + lost - stored
    assert found.group("weights") / GIB == pytest.approx(7.01, abs=0.03)


def head(folder: Path, kind: str) -> str:
    """The checkpoint of an EAGLE head for SmolLM2: one layer of its sizes, that reads 2 or 3 × 576 for `fc`."""
    folder.mkdir(parents=True)
    streams = {"eagle": 2, "eagle3": 3}[kind]
    config = {
        "architectures": ["LlamaForCausalLMEagle3" if kind == "eagle3" else "LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "num_hidden_layers": 1,
        "vocab_size": 49_152,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "max_position_embeddings": 8192,
    }
    (folder / "config.json").write_text(json.dumps(config))
    read = 2 * 576 if kind == "eagle3" else 576
    sizes = {
        "embed_tokens.weight": (49_152, 576),
        "fc.weight": (576, streams * 576),
        "layers.0.self_attn.q_proj.weight": (576, read),
        "layers.0.self_attn.k_proj.weight": (192, read),
        "layers.0.self_attn.v_proj.weight": (192, read),
        "layers.0.self_attn.o_proj.weight": (576, 576),
        "layers.0.mlp.gate_proj.weight": (1536, 576),
        "layers.0.mlp.up_proj.weight": (1536, 576),
        "layers.0.mlp.down_proj.weight": (576, 1536),
    }
    if kind == "eagle3":
        sizes["lm_head.weight"] = (4096, 576)  # of a vocabulary of its own
    save_file({name: np.zeros(size, np.float16) for name, size in sizes.items()}, folder / "model.safetensors")
    return str(folder)


@pytest.mark.parametrize(("kind", "own"), [("eagle", 0), ("eagle3", 4096 * 576)])
def test_a_head_shares_the_embedding(tmp_path: Path, kind: str, own: int) -> None:
    """v1/spec_decode/eagle.py: an embedding of the model's shape is the model's; `eagle3` has a head of its own."""
    asked: dict[str, Any] = {"runtime": "vllm", "gpu": ("RTX 4090",), "offline": True, "seq": 4096}
    base = estimate(BASE, **asked).estimate
    found = estimate(BASE, **asked, spec_method=kind, spec_model=head(tmp_path / kind, kind), spec_tokens=3).estimate
    assert not found.refused
    read, streams = (1152, 3) if kind == "eagle3" else (576, 2)
    layer = (576 + 2 * 192) * read + 576 * 576 + 3 * 1536 * 576
    (term,) = (term for term in found.terms if term.name == "draft model")
    assert term.nbytes == 2 * (layer + streams * 576 * 576 + own)
    assert found.kv_cache_per_token - base.kv_cache_per_token == 2 * 3 * 64 * 2
    assert f"--spec-method {kind} --spec-model {tmp_path / kind} --spec-tokens 3" in found.serving.command


def test_a_draft_that_is_not_found_is_an_error(tmp_path: Path) -> None:
    line = [BASE, "--runtime", "vllm", "--offline", "--spec-method", "eagle", "--spec-tokens", "2"]
    ran = run(*line, "--spec-model", "org/no-such-head")
    assert ran.returncode == 1
    assert "org/no-such-head" in ran.stderr
    assert "Traceback" not in ran.stderr
