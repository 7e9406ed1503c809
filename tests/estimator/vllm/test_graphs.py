"""CUDA graphs and communication, against arithmetic that is done by hand from the lines of vLLM's source they are of,
and against logs of public servers."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from hfmem import estimate, inspect
from hfmem.engines.vllm.graphs import captured
from hfmem.engines.vllm.settings import settings_of
from hfmem.units import GIB, KIB, MIB

model = cache(lambda name: inspect(name, offline=True))
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def server(name: str, **asked: Any) -> Any:
    return estimate(model(name), runtime="vllm", **({"gpu": ("H100",), "seq": 8192, "vllm_version": "0.19"} | asked))


def kinds(name: str, *wanted: str, **asked: Any) -> float:
    return sum(term.nbytes for term in server(name, **asked).estimate.terms if term.kind in wanted) / GIB


@pytest.mark.parametrize(
    ("asked", "pieces", "wholes"),
    [
        ({"max_num_seqs": 1024}, 3 + 31 + 17, 3 + 31 + 17),
        ({"max_num_seqs": 256}, 3 + 31 + 17, 3 + 31 + 1),
        ({"max_num_seqs": 64}, 3 + 16, 3 + 8),
        ({"max_num_seqs": 2}, 3, 2),
        ({"max_num_seqs": 1}, 2, 1),
        ({"vllm_version": "0.11", "max_num_seqs": 128}, 3 + 32, 3 + 16),
        ({"vllm_version": "0.10", "max_num_seqs": 224}, 3 + 56, 0),
        ({"vllm_version": "0.9"}, 3 + 64, 0),
        ({"vllm_version": "0.8"}, 3 + 64, 0),
        ({"vllm_version": "0.8", "gpu": ("T4",)}, 0, 3 + 32),
        ({"vllm_version": "0.10.1", "gpu": ("T4",)}, 0, 3 + 32),
        ({"vllm_version": "0.10.1", "gpu": ("T4",), "max_num_seqs": 1}, 0, 1),
        ({"vllm_version": "0.10.2", "gpu": ("T4",)}, 3 + 64, 0),
        ({"vllm_version": "0.7"}, 0, 3 + 32),
        ({"enforce_eager": True}, 0, 0),
        ({"max_num_seqs": 8, "max_num_batched_tokens": 8}, 3 + 1, 3 + 1),
    ],
    ids=str,
)
def test_what_a_release_captures(asked: dict[str, Any], pieces: int, wholes: int) -> None:
    """config/vllm.py::_set_cudagraph_sizes (0.19): 1, 2, 4, eighths below 256, sixteenths from there to twice
    `max_num_seqs`, at most 512 and a step; whole models up to `max_num_seqs` (v1/cudagraph_dispatcher.py). 0.11 goes on
    by eighths; 0.10 has no whole models; 0.8 and 0.9 go to 512 whatever the sequences; 0.7, and up to 0.10.1 a T4,
    which runs the first engine, whole models only."""
    report = server(LLAMA, **({"max_num_seqs": 256} | asked))
    found = captured(report.model, settings_of(report.scenario))
    assert (len(found.pieces), len(found.wholes)) == (pieces, wholes)


def test_gpt_oss_captures_up_to_1024() -> None:
    """model_executor/models/config.py::GptOssForCausalLMConfig."""
    report = server("openai/gpt-oss-20b")
    found = captured(report.model, settings_of(report.scenario))
    assert len(found.pieces) == 83 == 3 + 31 + 49  # "83 sizes up to 1024" in the log


@pytest.mark.parametrize(
    ("name", "release", "wholes"),
    [
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "0.10.2", 67),  # "Capturing CUDA graphs (decode, FULL): 67/67" in a log
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "0.10.1", 0),
        ("LiquidAI/LFM2-1.2B", "0.10.2", 0),
        ("meta-llama/Llama-3.1-8B-Instruct", "0.10.2", 0),
    ],
)
def test_recurrent_layers_were_the_first_with_whole_graphs(name: str, release: str, wholes: int) -> None:
    """0.10.2, model_executor/models/config.py::MambaModelConfig."""
    report = server(name, gpu=("H200",), tp=2, vllm_version=release)
    found = captured(report.model, settings_of(report.scenario))
    assert (len(found.pieces), len(found.wholes)) == (67, wholes)


def test_models_of_other_kinds_have_no_whole_graphs() -> None:
    """0.11.0, config/__init__.py: pooling models and encoder-decoders do not support them."""
    for name in ("BAAI/bge-m3", "openai/whisper-large-v3"):
        report = server(name, seq=448, max_num_seqs=8)
        assert not captured(report.model, settings_of(report.scenario)).wholes


def test_graphs_by_hand() -> None:
    """Llama-3.1-8B, 51 sizes both ways: 33 executables and 32 × 8 kernels in pieces, one and 32 × 11 as a whole;
    32 splits × 512 tokens × 32 heads × (128 + 1) × 4 B; activations of 512 tokens twice."""
    piece, whole = 33 * 64 * KIB + 32 * 8 * 14 * KIB, 64 * KIB + 32 * 11 * 14 * KIB
    splits = 32 * 512 * 32 * 129 * 4
    activations = 512 * (3 * 14336 + 4 * 4096) * 2
    terms = {term.kind: term.nbytes for term in server(LLAMA).estimate.terms}
    assert terms["graphs"] == whole + splits + 50 * (piece + whole)
    assert terms["graphs"] + terms["graph activations"] == 51 * (piece + whole) + splits + 2 * activations


@pytest.mark.parametrize(
    ("name", "asked", "gib"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", {"pp": 4}, 0.51),
        ("Qwen/Qwen2.5-7B-Instruct", {}, 0.87),
        ("Qwen/Qwen2.5-7B-Instruct", {"tp": 4}, 0.64),
        ("Qwen/Qwen3-8B", {}, 0.96),
        ("google/gemma-3-27b-it", {}, 1.14),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", {"tp": 4}, 0.96),
        ("deepseek-ai/DeepSeek-V2-Lite", {"tp": 4}, 1.11),
    ],
    ids=str,
)
def test_graphs_take_what_servers_log(name: str, asked: dict[str, Any], gib: float) -> None:
    """github.com/jgchn/llm-d-planner: "Graph capturing finished in … secs, took … GiB", vLLM 0.19.0 on H100. Heads on a
    rank, layers and kernels make the difference."""
    assert kinds(name, "graphs", "graph activations", **asked) == pytest.approx(gib, rel=0.12)


def test_a_card_without_flash_attention_3_has_no_splits() -> None:
    both = ("graphs", "graph activations")
    hopper, ada = (kinds(LLAMA, *both, gpu=(card,), max_num_seqs=256) for card in ("H100", "L40S"))
    assert hopper - ada == pytest.approx(32 * 256 * 32 * 129 * 4 / GIB)


@pytest.mark.parametrize(("card", "gib"), [("RTX 3090", 0.20), ("RTX 4090", 0.25), ("L40S", 0.30)])
def test_cards_on_a_bus_need_little_to_communicate(card: str, gib: float) -> None:
    """`non_torch_memory` of vLLM 0.7 with tensor parallelism: vllm-project/vllm, pull 14447, issues 13061, 15815."""
    found = kinds("Qwen/Qwen2.5-14B-Instruct", "libraries", gpu=(card,), tp=2, vllm_version="0.7")
    assert found == pytest.approx(gib, abs=0.07)


def test_nvlink_needs_more() -> None:
    """vLLM 0.7.2 on two A100: 1.54 GiB (github.com/daxdelvira/distributed_agent_gc); 0.19 on two H100: 1.51 when it
    starts, 2.06 to 2.11 in the profile run."""
    found = kinds("Qwen/Qwen2.5-14B-Instruct", "libraries", gpu=("A100 40GB",), tp=2, vllm_version="0.7")
    assert found == pytest.approx(1.54, abs=0.15)
    assert kinds(LLAMA, "context", "communication", tp=2) == pytest.approx(1.51, abs=0.03)
    assert kinds(LLAMA, "libraries", tp=2) == pytest.approx(2.09, abs=0.05)


def test_the_first_snapshot_decides_what_counts() -> None:
    """v1/worker/gpu_worker.py::init_device: up to 0.10 NCCL is set up after the first snapshot of free memory, and so
    in the budget; from 0.11 on before."""
    old, new = (kinds(LLAMA, "communication", tp=2, vllm_version=version) for version in ("0.10", "0.11"))
    assert old == 0
    assert new > 0.9


def test_vllms_own_buffers() -> None:
    """custom_all_reduce.py: two of 8 MiB; all_reduce_utils.py, SYMM_MEM_ALL_REDUCE_MAX_SIZES: 64 MiB for two ranks of
    compute capability 9.0, 32 for four. None without NVLink, or for three ranks."""
    found = {
        (card, tp): [term.nbytes for term in server(LLAMA, gpu=(card,), tp=tp).estimate.terms if "buffers" in term.name]
        for card, tp in (("H100", 2), ("H100", 4), ("RTX 4090", 2))
    }
    assert found == {("H100", 2): [(16 + 64) * MIB], ("H100", 4): [(16 + 32) * MIB], ("RTX 4090", 2): []}


def test_a_long_prompt_of_an_old_release_is_not_sampled() -> None:
    """github.com/vllm-project/vllm/issues/10517: Llama-3.1-8B on an RTX 3090, 2.99 GiB at 29,000 tokens, and 0.06 at
    35,000, where prompts are chunked: 512 tokens × (3 × 14,336 + 4 × 4,096) × 2 B."""
    asked: dict[str, Any] = {"gpu": ("RTX 3090",), "vllm_version": "0.6"}
    long = server(LLAMA, seq=35_000, max_num_batched_tokens=512, **asked).estimate.group("activations")
    assert long / GIB == pytest.approx(0.06, abs=0.02)
    assert server(LLAMA, seq=29_000, **asked).estimate.group("activations") / GIB == pytest.approx(2.99, rel=0.15)
