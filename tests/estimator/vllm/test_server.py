"""vLLM's rules one by one, each against what a public log or the engine's source says."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from hfmem import estimate, inspect
from hfmem.engines.vllm.cache import layout_of
from hfmem.engines.vllm.releases import DEFAULT, RELEASES, read_of
from hfmem.engines.vllm.rules import RULES, rules_of
from hfmem.engines.vllm.settings import settings_of
from hfmem.errors import InvalidScenarioError
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve
from hfmem.units import GIB
from hfmem.unknown import Unknown

model = cache(lambda name: inspect(name, offline=True))
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
LOGS = "github.com/jgchn/llm-d-planner/tree/d3121e059da88662db39a926a3ead964be97359b/accuracy/results"


def server(name: str, **asked: Any) -> Any:
    asked = {"gpu": ("H100",), "seq": 8192, "vllm_version": "0.19", "gpu_memory_utilization": 0.95} | asked
    return estimate(model(name), runtime="vllm", **asked)


@pytest.mark.parametrize(
    ("name", "asked", "tokens", "concurrency"),
    [
        (LLAMA, {}, 476_016, 58.11),
        (LLAMA, {"dtype": "float32"}, 175_296, 21.4),
        (LLAMA, {"dtype": "fp8"}, 529_248, 64.61),
        ("Qwen/Qwen2.5-7B-Instruct", {}, 1_096_000, 133.79),
        ("Qwen/Qwen2.5-7B-Instruct", {"kv_dtype": "fp8"}, 2_192_000, 267.58),
        ("Qwen/Qwen2.5-7B-Instruct", {"tp": 4}, 5_043_280, 615.63),
        ("codellama/CodeLlama-7b-hf", {}, 126_256, 15.41),
        ("google/gemma-3-27b-it", {}, 36_560, 4.46),
    ],
    ids=str,
)
def test_the_pool_is_what_the_server_logs(name: str, asked: dict[str, Any], tokens: int, concurrency: float) -> None:
    """LOGS: vLLM 0.19.0 on one H100, `--gpu-memory-utilization 0.95`."""
    found = server(name, **asked).estimate.serving
    assert found.kv_tokens == pytest.approx(tokens, rel=0.025)
    assert found.max_concurrency == pytest.approx(concurrency, rel=0.025)


def test_the_cache_of_a_report_is_what_the_batch_needs() -> None:
    one, four = (server(LLAMA, batch=batch).estimate for batch in (1, 4))
    assert one.group("kv_cache") == 2**30
    assert four.group("kv_cache") == 4 * 2**30
    assert one.serving.kv_pool == four.serving.kv_pool


def test_a_block_is_never_shared_by_requests() -> None:
    exact, over = (server(LLAMA, seq=seq).estimate.group("kv_cache") for seq in (8192, 8193))
    assert over - exact == 16 * 131_072


@pytest.mark.parametrize(("batched", "gib"), [(8192, 0.3754), (2048, 0.2377)])
def test_a_window_is_charged_with_the_step_that_may_come(batched: int, gib: float) -> None:
    """gpt-oss-20b at 8,192 tokens: a window of 128 saves nothing where 8,192 tokens may come at once."""
    found = server("openai/gpt-oss-20b", max_num_batched_tokens=batched)
    assert found.estimate.group("kv_cache") / GIB == pytest.approx(gib, rel=0.01)


def test_states_take_pages_of_the_attention() -> None:
    """Qwen3.5-27B, tp 4, 50,000 tokens: 0.80255 GiB a request (public log of vLLM 0.19.0)."""
    found = server("Qwen/Qwen3.5-27B", tp=4, seq=50_000, max_num_seqs=1, max_num_batched_tokens=2048)
    assert found.estimate.group("kv_cache") / GIB == pytest.approx(0.80255, rel=0.01)


def test_a_block_holds_a_state() -> None:
    """Qwen3.5-27B at 32,768 tokens: 290,864 tokens and 33.04 requests (github.com/vllm-project/vllm/issues/40691),
    which are 1,487 blocks of 784 tokens in four groups; a request takes 42 for attention and one for each state."""
    model_ = model("Qwen/Qwen3.5-27B")
    asked = Options(runtime="vllm", vllm_version="0.19", seq=32_768)
    scenario = resolve(asked, model_)
    found = layout_of(model_, scenario)
    assert not isinstance(found, Unknown)
    assert (found.block, len(found.groups)) == (784, 4)
    assert scenario.serving is not None
    assert found.blocks(32_768, scenario.serving) == 45
    assert round(1_487 / 45, 2) == 33.04
    assert 290_864 == 1_487 // 4 * 784


@pytest.mark.parametrize(
    ("version", "asked", "blocks"),
    [
        ("0.24", {}, 66),
        ("0.24", {"enable_prefix_caching": True}, 69),
        ("0.28", {}, 69),
        ("0.28", {"enable_prefix_caching": False}, 66),
        ("0.24", {"mamba_cache_mode": "align"}, 66),
    ],
)
def test_prefix_caching_keeps_a_second_state(version: str, asked: dict[str, Any], blocks: int) -> None:
    """Qwen3.6-35B-A3B on an RTX 5090, FP8 cache, with caching: 4.3333 requests of 131,072 tokens in 5.98 GiB, which are
    299 blocks of 2,096 tokens (github.com/noonghunna/club-3090/issues/612, 0.24.0). Without it, each of three groups
    keeps one state fewer; the default is `_set_default_chunked_prefill_and_prefix_caching_args`."""
    asked = {"gpu": ("RTX 5090",), "seq": 131_072, "kv_dtype": "fp8", "dtype": "nvfp4", "max_num_seqs": 1} | asked
    found = server("Qwen/Qwen3.6-35B-A3B", vllm_version=version, **asked).estimate.serving
    assert found.blocks_per_request == blocks
    assert round(299 / 69, 4) == 4.3333


def test_states_of_every_block() -> None:
    """Up to 0.27, classes of Mamba 2 keep a state for every block with prefix caching; the block is a multiple of their
    kernel's chunk (`SupportsMambaPrefixCaching`, `get_mamba_chunk_size`: 128 of Nemotron-H)."""
    asked = {"vllm_version": "0.27", "enable_prefix_caching": True, "seq": 8192, "max_num_seqs": 8}
    scenario = resolve(Options(runtime="vllm", **asked), model(NEMOTRON))
    found = layout_of(model(NEMOTRON), scenario)
    assert not isinstance(found, Unknown)
    assert found.block % 128 == 0
    pages = -(-8192 // found.block)
    assert [group.spec.pages(8192, settings_of(scenario)) for group in found.groups] == [pages] * len(found.groups)


NEMOTRON = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"


def test_more_sequences_than_states_do_not_start() -> None:
    """config/compilation.py since 0.20: `max_num_seqs` must not exceed the pool's blocks with full CUDA graphs."""
    asked: dict[str, Any] = {"gpu_memory_utilization": 0.92, "seq": 8192}
    chosen = server(NEMOTRON, vllm_version="0.27.1", **asked)
    found = chosen.estimate.serving
    assert found.kv_blocks < 1024
    assert f"--max-num-seqs {_of(found.command)}" in found.command
    assert 0 < _of(found.command) <= found.kv_blocks
    assert any("--max-num-seqs" in note for note in chosen.estimate.notes)
    asked |= {"max_num_seqs": 1024}
    refused = server(NEMOTRON, vllm_version="0.27.1", **asked)
    assert "exceeds" in refused.estimate.serving.refused
    assert refused.estimate.serving.command is None
    assert refused.fits[0].refused == refused.estimate.serving.refused
    for free in ({"vllm_version": "0.19.1"}, {"vllm_version": "0.27.1", "enforce_eager": True}):
        assert not server(NEMOTRON, **(asked | free)).estimate.serving.refused


def _of(command: str) -> int:
    """The limit of sequences in a launch line."""
    return int(command.split("--max-num-seqs ")[1].split(maxsplit=1)[0])


@pytest.mark.parametrize(
    ("version", "dtype", "page"), [("0.12", "bfloat16", 2), ("0.19", "float16", 2), ("0.20", "float32", 4)]
)
def test_the_state_of_a_class_without_a_dtype_in_its_config(version: str, dtype: str, page: int) -> None:
    """NemotronHForCausalLMConfig: float16 from 0.13 to 0.19, then float32; 64 heads of 64 x 128, and a convolution of
    three columns of 64 x 64 + 2 x 8 x 128 in bfloat16."""
    plain = replace(model(NEMOTRON), architecture=replace(model(NEMOTRON).architecture, state_dtype=None))
    found = layout_of(plain, resolve(Options(runtime="vllm", vllm_version=version, max_num_seqs=8), plain))
    assert not isinstance(found, Unknown)
    state = 64 * 64 * 128 * page + 3 * (64 * 64 + 2 * 8 * 128) * 2
    token = 2 * 2 * 128 * 2
    assert found.page == -(-state // (16 * token)) * 16 * token
    assert dtype


@pytest.mark.parametrize(
    ("version", "asked", "pages"),
    [("0.25", {}, (127 + 8192) // 16 + 1), ("0.26", {}, (127 + 16384) // 16 + 1), ("0.28", {"pp": 2}, 1)],
)
def test_windows_wait_for_the_steps_in_flight(version: str, asked: dict[str, Any], pages: int) -> None:
    """`max_in_flight_tokens` since 0.26: with asynchronous scheduling a second step is on its way."""
    settings = Options(runtime="vllm", vllm_version=version, max_num_batched_tokens=8192, seq=131_072, **asked)
    scenario = resolve(settings, model("openai/gpt-oss-20b"))
    found = layout_of(model("openai/gpt-oss-20b"), scenario)
    assert not isinstance(found, Unknown)
    sliding = next(group.spec for group in found.groups if group.spec.kind == "sliding")
    if pages > 1:
        assert sliding.pages(131_072, scenario.serving) == pages + 1  # type: ignore[arg-type]
    else:
        assert sliding.ahead == 2 * 8192


@pytest.mark.parametrize(("name", "bytes_"), [("Qwen/Qwen3.5-27B", 4), ("Qwen/Qwen3-Next-80B-A3B-Instruct", 2)])
def test_a_state_is_wide_where_the_configuration_says_so(name: str, bytes_: int) -> None:
    assert (model(name).architecture.state_dtype == "float32") == (bytes_ == 4)


def test_an_encoder_is_charged_with_a_whole_step() -> None:
    """whisper-large-v3, 448 tokens: 0.38092 GiB a request (public log of vLLM 0.15.1, 2,048 tokens a step)."""
    found = server("openai/whisper-large-v3", seq=448, max_num_batched_tokens=2048, vllm_version="0.15")
    assert found.estimate.group("kv_cache") / GIB == pytest.approx(0.38092, rel=0.01)


@pytest.mark.parametrize(
    ("name", "asked", "gib"),
    [
        ("Qwen/Qwen3-14B", {"vllm_version": "0.16"}, 5.64),
        ("Qwen/Qwen3-14B", {"vllm_version": "0.17"}, 2.23),
        (LLAMA, {}, 1.89),
        (LLAMA, {"tp": 4}, 1.89),
        (LLAMA, {"dtype": "float32"}, 2.21),
        (LLAMA, {"pp": 4}, 2.01),
        ("microsoft/phi-4", {}, 1.52),
        ("google/gemma-2-2b", {}, 3.62),
        ("google/gemma-2-27b-it", {}, 3.66),
        ("Qwen/Qwen3-30B-A3B", {}, 2.68),
        ("deepseek-ai/DeepSeek-V2-Lite", {}, 1.93),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", {"tp": 2}, 1.21),
        ("openai/gpt-oss-20b", {}, 2.87),
    ],
    ids=str,
)
def test_the_peak_of_the_profile_run(name: str, asked: dict[str, Any], gib: float) -> None:
    """LOGS: "torch peak memory increase" on an H100."""
    found = server(name, **asked).estimate.group("activations") / GIB
    assert found == pytest.approx(gib, abs=0.03)


def test_the_sampler_needs_less_for_fewer_sequences() -> None:
    peaks = [server(LLAMA, max_num_seqs=rows).estimate.group("activations") for rows in (1, 64, 256, 1024)]
    assert peaks == sorted(peaks)


@pytest.mark.parametrize(
    ("version", "card", "seqs", "tokens"),
    [
        ("0.19", "H100", 1024, 8192),
        ("0.19", "A100", 256, 2048),
        ("0.19", "L4", 256, 2048),
        ("0.19", "M2 Ultra", 256, 2048),
        ("0.8.2", "H100", 1024, 8192),
        ("0.8.2", "MI300X", 1024, 2048),
        ("0.8.2", "L4", 1024, 2048),
        ("0.8.2", "T4", 256, 8192),
        ("0.8.4", "MI300X", 256, 2048),
        ("0.8.5", "A100", 1024, 8192),
        ("0.9", "A100", 256, 2048),
        ("0.27", "B200", 1024, 8192),
        ("0.28", "B200", 1024, 16384),
        ("0.28", "H200", 1024, 8192),
        ("0.32", "DGX Spark", 1024, 8192),
        ("0.33", "DGX Spark", 256, 2048),
        ("0.7", "H100", 256, 8192),
    ],
)
def test_defaults_follow_the_card(version: str, card: str, seqs: int, tokens: int) -> None:
    found = server(LLAMA, gpu=(card,), vllm_version=version).scenario.serving
    assert (found.max_num_seqs, found.max_num_batched_tokens) == (seqs, tokens)


def test_a_step_is_no_longer_than_all_sequences() -> None:
    found = server(LLAMA, seq=512, max_num_seqs=2).scenario.serving
    assert found.max_num_batched_tokens == 1024


def test_a_float32_checkpoint_runs_in_16_bits() -> None:
    assert server("openai-community/gpt2", seq=1024).scenario.dtype == "bfloat16"
    assert server(LLAMA, gpu=("T4",)).scenario.dtype == "float16"


@pytest.mark.parametrize(
    ("version", "rules"),
    [("0.6.4.post1", "0.6"), ("0.8.5", "0.6"), ("v0.9.2", "0.9"), ("0.11.1rc3", "0.9"), ("0.13.0", "0.13")]
    + [("0.99", RULES[-1].name), ("1.2", RULES[-1].name), (None, RULES[-1].name)],
)
def test_the_rules_of_a_release(version: str | None, rules: str) -> None:
    assert rules_of(version).name == rules


@pytest.mark.parametrize(
    ("version", "row"),
    [("0.6.4.post1", "0.6"), ("0.8.3", "0.8"), ("0.8.4", "0.8.4"), ("0.8", "0.8.5"), ("0.27.1", "0.27")]
    + [("0.19.1", "0.17"), ("0.99", RELEASES[-1].name), (None, DEFAULT)],
)
def test_the_source_of_a_release(version: str | None, row: str) -> None:
    """A release without a patch is the latest of its minor releases."""
    assert read_of(version).name == row


@pytest.mark.parametrize("version", ["0.5.5", "latest", "", "0"])
def test_no_rules(version: str) -> None:
    with pytest.raises(InvalidScenarioError, match="--vllm-version"):
        rules_of(version)


def test_rules_are_in_order() -> None:
    assert [rules.since for rules in RULES] == sorted(rules.since for rules in RULES)
    assert [row.since for row in RELEASES] == sorted(row.since for row in RELEASES)


def test_graphs_are_in_the_budget_since_0_20() -> None:
    """envs.py: VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS is 1 from 0.20.0 on."""
    old, new = (
        server(LLAMA, vllm_version=version, gpu_memory_utilization=0.9).estimate.serving.kv_pool
        for version in ("0.19", "0.20")
    )
    graphs = {t.name: t.nbytes for t in server(LLAMA, vllm_version="0.20").estimate.terms}["CUDA graphs"]
    assert old - new == graphs
    eager = server(LLAMA, vllm_version="0.20", enforce_eager=True, gpu_memory_utilization=0.9).estimate.serving.kv_pool
    assert eager - old == 123 * 2**20  # what the profile of graphs leaves


def test_the_launch_line() -> None:
    found = server(LLAMA, tp=2, dtype="fp8", kv_dtype="fp8", max_num_seqs=64, enforce_eager=True).estimate.serving
    assert found.command == (
        "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len 8192 --tensor-parallel-size 2 --max-num-seqs 64 "
        "--gpu-memory-utilization 0.95 --enforce-eager --quantization fp8 --kv-cache-dtype fp8"
    )


@pytest.mark.parametrize(
    "asked",
    [
        {"max_num_seqs": 4},
        {"runtime": "vllm", "method": "textbook"},
        {"runtime": "vllm", "gpu_memory_utilization": 1.5},
        {"runtime": "vllm", "gpu_memory_utilization": float("nan")},
        {"runtime": "vllm", "max_num_seqs": 0},
        {"tp": 0},
        {"gpus": 10**9},
        {"tp": 2, "method": "textbook"},
        {"gpu": ("no such card",)},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any]) -> None:
    from hfmem.scenario.check import check

    with pytest.raises(InvalidScenarioError):
        check(Options(**asked))


@pytest.mark.parametrize(("length", "gib"), [(30_000, 6.66), (13_528, 5.44)])
def test_compressed_attention_is_charged_as_the_engine_says(length: int, gib: float) -> None:
    """github.com/vllm-project/vllm/issues/44376: 0.22, `LLM` (16,384 tokens a step), DeepSeek-V4-Flash: 6.66 GiB are
    needed for 30,000 tokens, and of 13,528 a request fits in 5.44."""
    report = server(
        "deepseek-ai/DeepSeek-V4-Flash",
        gpu=("2x H200",),
        tp=2,
        seq=length,
        max_num_batched_tokens=16_384,
        vllm_version="0.22",
    )
    found = layout_of(report.model, report.scenario)
    assert not isinstance(found, Unknown)
    needed = found.blocks(length, settings_of(report.scenario)) * found.block_bytes
    assert needed / GIB == pytest.approx(gib, abs=0.005)


@pytest.mark.parametrize(
    ("version", "page"),
    [
        ("0.22", 22 * (37_440 + 8_640 + 1_728)),
        ("0.24", 22 * 37_440 + 21 * 8_640 + 20 * 1_728),
        ("0.27", 21 * (37_440 + 8_640) + 20 * 1_728),
        ("0.33", 21 * (37_440 + 8_640) + 20 * 1_728),
    ],
)
def test_a_block_of_compressed_attention_by_release(version: str, page: int) -> None:
    """64 entries of 584 B, 64 keys of 132 B, 2 entries of 584 B, in steps of 576 B; 43 windows in two groups of 22,
    21 layers with one entry per 4 tokens, 20 with one per 128."""
    report = server("deepseek-ai/DeepSeek-V4-Flash", gpu=("2x H200",), tp=2, vllm_version=version)
    found = layout_of(report.model, report.scenario)
    assert not isinstance(found, Unknown)
    assert found.block_bytes == page
    assert len(found.groups) == 5


@pytest.mark.parametrize(("version", "page"), [("0.12", 2_752_512), ("0.19", 2_752_512), ("0.27", 5_373_952)])
def test_states_of_nemotron_without_a_dtype(version: str, page: int) -> None:
    """128 heads of 80 x 128 and a convolution of 12,288 channels, beside 4,096 B a token: blocks of
    672 tokens in 16 bits, of 1,312 in 32."""
    report = server("nvidia/NVIDIA-Nemotron-Nano-9B-v2", vllm_version=version)
    found = layout_of(report.model, report.scenario)
    assert not isinstance(found, Unknown)
    assert found.page == page
