"""Room that a verdict needs, memory of other programs, and the peak while loading."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from hfmem import Model, estimate, inspect
from hfmem.errors import InvalidScenarioError
from hfmem.fetcher.values import Checkpoint, FileInfo, ModelRef
from hfmem.hardware.table import find
from hfmem.mapper.interpret import interpret
from hfmem.report.formats import Style, render
from hfmem.report.result import to_result
from tests.command import run

GIB = 2**30
MIB = 2**20
QWEN = "Qwen/Qwen3-8B"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
CLOSE = {"gpu": "RTX 4090", "seq": 32_768}  # 0.36 GiB of 23.64 stay free


@cache
def model(name: str) -> Model:
    return inspect(name, offline=True)


def row(name: str = QWEN, **asked: Any) -> dict[str, Any]:
    (found,) = to_result(estimate(model(name), **asked))["fit"]
    return dict(found)


def test_a_card_that_is_nearly_full_is_tight() -> None:
    found = row(**CLOSE)
    assert (found["fits"], found["tight"]) == (True, True)
    assert found["headroom"] < found["margin"]
    assert "caching_allocator_warmup" in found["margin_source"]


@pytest.mark.parametrize("asked", [{"gpu": "H100", "seq": 4096}, {"gpu": "RTX 4090", "seq": 4096}], ids=str)
def test_room_enough_is_not(asked: dict[str, Any]) -> None:
    found = row(**asked)
    assert (found["fits"], found["tight"]) == (True, False)


def test_what_does_not_fit_is_not_tight() -> None:
    found = row(gpu="T4")
    assert (found["fits"], found["tight"]) == (False, False)


@pytest.mark.parametrize("runtime", ["transformers", "vllm"])
def test_the_margin_is_the_engines(runtime: str) -> None:
    """1.2 GiB of a card that transformers does not take, 150 MiB that vLLM's profile may be off by."""
    margin = {"transformers": 1.2 * GIB, "vllm": 150 * MIB}[runtime]
    fullest = row(gpu="RTX 4090", seq=1024, runtime=runtime)["max_batch"]
    verdicts = [row(gpu="RTX 4090", seq=1024, runtime=runtime, batch=fullest - less) for less in range(12)]
    assert verdicts[0]["tight"]
    assert all(found["tight"] == (found["headroom"] < int(margin)) for found in verdicts)
    assert not verdicts[-1]["tight"]


def test_training_is_tight_below_what_the_allocator_reserves() -> None:
    asked = {"train": "lora", "lora_targets": "all-linear", "seq": 1024}
    high = to_result(estimate(model(LLAMA), **asked))["training"]["reserved"]["high"]
    for gpu in ("H100", "RTX 4090", "L40S", "A100 40GB"):
        report = estimate(model(LLAMA), gpu=gpu, **asked)
        (found,) = to_result(report)["fit"]
        own = to_result(report)["training"]["reserved"]["high"]
        assert abs(own - high) < GIB
        assert found["tight"] == (bool(found["fits"]) and own > found["usable"])


def test_words_of_a_tight_fit() -> None:
    report = estimate(model(QWEN), **CLOSE)
    text = render("table", [report], [], Style())
    assert "fits, but tight" in text
    assert "0.36 GiB free, 1.20 GiB recommended" in text
    assert "tight, 0.36" in render("table", [report, report], [], Style(several=True))


def test_require_fit_takes_a_tight_fit_and_says_so() -> None:
    line = (QWEN, "--offline", "--gpu", "RTX 4090", "--seq", "32768", "--require-fit")
    process = run(*line)
    assert process.returncode == 0
    assert "fits on RTX 4090, but tight: 0.36 GiB free" in process.stderr
    assert "tight" not in run(*line[:-1]).stderr


@pytest.mark.parametrize(
    "line",
    [
        (QWEN, "--runtime", "vllm", "--seq", "131072", "--gpu", "H100"),
        (QWEN, "--runtime", "vllm", "--gpu", "T4"),
        (QWEN, "--gpu", "RTX 4090", "--seq", "32768", "--reserve", "0.5"),
        ("albert/albert-base-v1", "--gpu", "H100", "--seq", "512"),
        (LLAMA, "--gpu", "H100", "--gpu", "3x H100", "--tp", "3"),
    ],
    ids=" ".join,
)
def test_require_fit_takes_nothing_refused_or_unknown(line: tuple[str, ...]) -> None:
    process = run(*line, "--offline", "--require-fit")
    assert process.returncode == (1 if "--tp" in line else 3), process.stderr


@pytest.mark.parametrize(
    ("given", "nbytes"),
    [("2", 2 * GIB), ("1.5", 3 * GIB // 2), ("2GiB", 2 * GIB), ("2 GB", 2 * GIB), ("512MiB", 512 * MIB)]
    + [("512m", 512 * MIB), (2, 2 * GIB), (0.5, GIB // 2), ("0", 0), (None, 0)],
    ids=str,
)
def test_memory_of_other_programs(given: Any, nbytes: int) -> None:
    plain, found = row(gpu="RTX 4090"), row(gpu="RTX 4090", reserve=given)
    assert found["usable"] == plain["usable"] - nbytes
    assert (found["reserved"], found["memory"]) == (nbytes, plain["memory"])
    assert found["headroom"] == plain["headroom"] - nbytes


def test_it_is_taken_from_each_accelerator_and_shown() -> None:
    report = estimate(model(QWEN), gpu=("RTX 4090", "2x L4", "M2 Max 96GB", "cpu"), reserve="1.5GiB")
    for fit in report.fits:
        assert fit.usable == fit.gpu.memory - 3 * GIB // 2
    assert to_result(report)["scenario"]["reserve"] == 3 * GIB // 2
    assert "1.50 GiB of 23.64 GiB reserved for other programs" in render("table", [report], [], Style())
    assert row(gpu="RTX 4090", train="lora", lora_targets="all-linear", reserve=30)["usable"] == 0


@pytest.mark.parametrize("given", ["lots", "-1", "1e9", "2XB", ""])
def test_no_size_of_memory(given: str) -> None:
    with pytest.raises(InvalidScenarioError, match="--reserve"):
        estimate(model(QWEN), gpu="H100", reserve=given)  # type: ignore[arg-type] # as the command line has it


def test_reserve_needs_an_accelerator() -> None:
    process = run(QWEN, "--offline", "--reserve", "2")
    assert (process.returncode, "--reserve needs --gpu" in process.stderr) == (2, True)


def stored(*names: str, **config: Any) -> Model:
    """A model whose weights lie in files of these names."""
    files = tuple(FileInfo(name=name, size=5 * GIB) for name in names)
    own = dict(model(QWEN).checkpoint.config or {}) | config
    found = Checkpoint(
        ref=ModelRef(model_id="org/m"),
        commit=None,
        source="hub",
        provenance="huggingface.co",
        config=own,
        files=files,
        weight_files=files,
    )
    return interpret(found)


MAPPED = ("a.safetensors", "b.safetensors")
PICKLED = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")


@pytest.mark.parametrize(
    ("names", "asked", "host"),
    [
        (MAPPED, {}, 0),
        (PICKLED, {}, 10 * GIB),
        (MAPPED, {"runtime": "vllm"}, 0),
        (PICKLED, {"runtime": "vllm"}, None),
        (MAPPED, {"train": "full"}, 0),
        (MAPPED, {"train": "full", "fsdp": True, "gpus": 8}, 0),
        (MAPPED, {"train": "full", "zero": 3, "gpus": 8}, 10 * GIB),
        (PICKLED, {"train": "full"}, 10 * GIB),
        ((), {}, None),
    ],
    ids=str,
)
def test_the_hosts_peak_while_loading(names: tuple[str, ...], asked: dict[str, Any], host: int | None) -> None:
    found = to_result(estimate(stored(*names), **asked))
    assert found["host"]["load_peak"] == host
    assert found["host"]["total"] == 0
    if found["load_peak"] is not None:
        assert found["load_peak"]["certainty"] == "typical"
        assert found["load_peak"]["source"]


def test_an_accelerators_peak_while_loading() -> None:
    plain = to_result(estimate(stored(*MAPPED)))
    assert plain["load_peak"]["gpu"] == plain["memory"]["weights"]
    packed = to_result(estimate(stored(*MAPPED), dtype="nf4"))
    matrix = 12_288 * 4096 * 2  # the largest, of the MLP, in bfloat16
    assert packed["load_peak"]["gpu"] == packed["memory"]["weights"] + matrix


def test_a_processor_holds_everything_itself() -> None:
    found = to_result(estimate(model(QWEN), gpu="cpu"))
    host = dict(found["host"])
    assert host.pop("load_peak") is None
    assert host == found["memory"]
    assert find("RTX 4090").accelerator.kind == "discrete"


def test_what_is_offloaded_is_the_hosts() -> None:
    asked = {"train": "full", "zero": 3, "gpus": 8, "offload": "parameters"}
    found = to_result(estimate(model(LLAMA), **asked))
    host = found["host"]
    assert host["total"] == found["training"]["host"] > 0
    assert host["weights"] > 0
    assert host["optimizer"] > host["weights"]
    assert json.dumps(found["memory_all_gpus"])


def test_the_textbook_knows_no_host() -> None:
    assert to_result(estimate(model(QWEN), method="textbook"))["host"] is None


@pytest.mark.parametrize("asked", [{}, {"train": "full"}], ids=str)
def test_a_table_of_positions_ends(asked: dict[str, Any]) -> None:
    """GPT-2 has 1,024 rows, and raises beyond; rotary positions go on."""
    name = "openai-community/gpt2"
    found = row(name, gpu="H100", seq=1025, **asked)
    assert (found["fits"], "1,024" in found["refused"]) == (False, True)
    assert row(name, gpu="H100", seq=1024, **asked)["fits"] is True
    assert any("transformers refuses this" in note for note in estimate(model(name), seq=1025, **asked).notes)
    assert row(QWEN, gpu="H100", seq=50_000)["refused"] is None


@pytest.mark.parametrize("runtime", ["transformers", "vllm"])
def test_what_is_missing_counts_what_others_hold_beyond_the_card(runtime: str) -> None:
    """As with cards of one more GiB each: six more that are held are six more that are missing."""
    held = [row(gpu="24GB", runtime=runtime, reserve=reserve) for reserve in (24, 30)]
    assert [(found["fits"], found["usable"]) for found in held] == [(False, 0)] * 2
    assert held[0]["headroom"] == -held[0]["total"]
    assert held[1]["headroom"] == held[0]["headroom"] - 6 * GIB
