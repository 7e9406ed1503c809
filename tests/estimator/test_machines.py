"""Accelerators that are named with their number are used: which plan that makes, what contradicts it, what helps."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from hfmem import Model, estimate, inspect
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import Parallel
from hfmem.report.result import to_result

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
MIXTURE = "Qwen/Qwen3-30B-A3B"
EIGHT = ("8x H100", "p5.48xlarge")


@cache
def model(name: str) -> Model:
    return inspect(name, offline=True)


@pytest.mark.parametrize("gpu", EIGHT)
@pytest.mark.parametrize("asked", [{"zero": 1}, {"zero": 3}, {"fsdp": True}, {}], ids=str)
def test_training_takes_them_as_replicas(gpu: str, asked: dict[str, Any]) -> None:
    found = estimate(model(LLAMA), train="full", gpu=gpu, **asked)
    named = estimate(model(LLAMA), train="full", gpu="H100", gpus=8, **asked)
    assert found.scenario.parallel == Parallel(dp=8)
    assert found.estimate.total == named.estimate.total
    (fit,) = to_result(found)["fit"]
    assert (fit["gpus"], fit["total"]) == (8, found.estimate.total)
    assert sum(row["count"] for row in to_result(found)["per_gpu"]) == 8


@pytest.mark.parametrize(
    ("asked", "plan"),
    [
        ({}, Parallel(tp=8)),
        ({"pp": 2}, Parallel(tp=4, pp=2)),
        ({"dp": 2}, Parallel(tp=4, dp=2)),
        ({"tp": 2}, Parallel(tp=2, dp=4)),
        ({"tp": 2, "pp": 2}, Parallel(tp=2, pp=2, dp=2)),
        ({"ep": 8}, Parallel(tp=8, ep=8)),
        ({"ep": 8, "tp": 2}, Parallel(tp=2, dp=4, ep=8)),
        ({"ep": 8, "dp": 8}, Parallel(tp=1, dp=8, ep=8)),
        ({"gpus": 8, "dp": 4}, Parallel(tp=2, dp=4)),
    ],
    ids=str,
)
@pytest.mark.parametrize("gpu", EIGHT)
def test_a_server_takes_them_as_the_sizes_say(gpu: str, asked: dict[str, Any], plan: Parallel) -> None:
    found = estimate(model(MIXTURE), runtime="vllm", gpu=gpu, **asked)
    assert found.scenario.parallel == plan
    assert found.estimate.serving is not None
    assert ("--enable-expert-parallel" in (found.estimate.serving.command or "")) == (plan.ep > 1)


def test_experts_lie_on_all_where_heads_do_not_divide() -> None:
    """Four key/value heads, which transformers does not repeat: replicas take the rest."""
    found = estimate(model(MIXTURE), gpu="8x H100", ep=8)
    assert found.scenario.parallel == Parallel(tp=4, dp=2, ep=8)
    assert any("key/value heads" in note for note in found.notes)


@pytest.mark.parametrize(
    ("asked", "plan"),
    [
        ({"tp": 2}, Parallel(tp=2, dp=4)),
        ({"pp": 2, "tp": 2, "stack": "megatron"}, Parallel(tp=2, pp=2, dp=2)),
        ({"ep": 8, "fsdp": True}, Parallel(dp=8, ep=8)),
        ({"cp": 2}, Parallel(cp=2, dp=4)),
    ],
    ids=str,
)
def test_the_sizes_of_training(asked: dict[str, Any], plan: Parallel) -> None:
    assert estimate(model(MIXTURE), train="full", gpu="8x H100", **asked).scenario.parallel == plan


@pytest.mark.parametrize(
    "asked", [{"gpus": 16}, {"tp": 16}, {"tp": 3}, {"tp": 4, "dp": 4}, {"pp": 3}, {"train": "full", "dp": 16}], ids=str
)
@pytest.mark.parametrize("gpu", EIGHT)
def test_what_contradicts_their_number_is_refused(gpu: str, asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidScenarioError, match="does not match the 8 × H100"):
        estimate(model(LLAMA), gpu=gpu, **asked)


@pytest.mark.parametrize(
    ("asked", "used", "told"),
    [
        ({"gpus": 4}, 4, "4 of the 8 H100 80GB are used: --gpus 4"),
        ({"tp": 2, "dp": 2}, 4, "4 of the 8 H100 80GB are used: --tp 2 --dp 2"),
        ({"ep": 4}, 4, "4 of the 8 H100 80GB are used: --ep 4 is not tp × dp = 8"),
        ({"tp": 4}, 8, "--tp 4 on 8 H100 80GB: --dp 2 replicas use them all"),
        ({"runtime": "transformers", "method": "textbook"}, 1, "1 of the 8 H100 80GB is used: the textbook"),
    ],
    ids=str,
)
def test_what_is_not_used_is_told(asked: dict[str, Any], used: int, told: str) -> None:
    found = estimate(model(MIXTURE), gpu="8x H100", **{"runtime": "vllm", **asked})
    assert found.scenario.parallel.gpus == used
    assert any(told in note for note in found.notes)


def test_shards_are_of_the_machine() -> None:
    found = estimate(model(LLAMA), train="full", fsdp=True, shard=4, gpu="8x H100")
    assert found.scenario.parallel.dp == 8
    with pytest.raises(InvalidScenarioError, match="--shard 3 does not divide the 8 replicas"):
        estimate(model(LLAMA), train="full", fsdp=True, shard=3, gpu="8x H100")


def total_with(option: str, **asked: Any) -> int:
    """The total of the options that a line of advice adds."""
    words = option.replace("'", "").replace("--gpu ", "").split() if option.startswith("--gpu ") else option.split()
    keywords = dict(asked)
    if option.startswith("--gpu "):
        keywords["gpu"], words = " ".join(words[:3]), words[3:]
    for name, value in zip(words[::2], words[1::2], strict=False):
        keywords[name.removeprefix("--")] = int(value)
    if "--fsdp" in option:
        keywords |= {"fsdp": True}
    return estimate(model(LLAMA), **keywords).estimate.total


@pytest.mark.parametrize("gpu", ["RTX 4090", "2x RTX 4090"])
def test_advice_for_training_names_accelerators_and_sharding(gpu: str) -> None:
    asked = {"train": "full", "seq": 1024, "gradient_checkpointing": True, "gpu": gpu}
    found = estimate(model(LLAMA), **asked)
    options = {row.option: row for row in found.savings}
    sharded = [row for option, row in options.items() if "--zero 3" in option or "--fsdp" in option]
    assert sharded
    assert all(row.total < found.estimate.total for row in sharded)
    assert any(row.fits for row in options.values())
    for row in sharded:
        if row.option.startswith("--gpus") and "--zero 3" in row.option:
            assert total_with(row.option, **asked) == row.total


def test_more_of_what_shares_already() -> None:
    asked = {"train": "full", "seq": 1024, "gradient_checkpointing": True, "zero": 3, "gpu": "2x H100"}
    found = estimate(model("meta-llama/Llama-3.1-70B-Instruct"), **asked)
    (fit,) = found.fits
    # 16 B × 70.6 G parameters are 70.1 GiB of each of 15, and a sub-group 4; of 14 they are 75.1, and too much with it
    assert fit.gpus_needed == 15
    options = {row.option: row for row in found.savings}
    assert options["--gpu '16x H100 80GB'"].fits


@pytest.mark.parametrize(
    ("gpu", "option"), [("2x H100", "--gpu '4x H100 80GB'"), ("H100", "--tp 4"), ("3x H100", "--gpu '4x H100 80GB'")]
)
def test_advice_for_running_can_be_typed(gpu: str, option: str) -> None:
    name = "Qwen/Qwen2.5-72B-Instruct"
    found = estimate(model(name), runtime="vllm", gpu=gpu)
    kinds = ("--gpu '4x", "--tp", "--gpus")
    (row,) = [row for row in found.advice if row.option.startswith(kinds)]
    assert (row.option, row.fits) == (option, True)
    again = {"gpu": "4x H100 80GB"} if option.startswith("--gpu") else {"gpu": gpu, "tp": 4}
    assert estimate(model(name), runtime="vllm", **again).estimate.total == row.total


def test_fewer_than_there_are() -> None:
    found = estimate(model("meta-llama/Llama-2-7b-hf"), batch=4, gpu="3x L4")
    assert found.scenario.parallel == Parallel()
    assert "--gpus 2" in {row.option for row in found.advice if row.fits}
