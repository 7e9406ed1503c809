"""What is advised is what its option answers, once it is on the command line."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from tests.command import run

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
OSS = "openai/gpt-oss-20b"

ASKED = {
    "tight": f"{OSS} --gpu 'RTX 4080'",
    "long": "Qwen/Qwen3-8B --gpu 'RTX 4090' --seq 40960 --batch 4",
    "server": "Qwen/Qwen3-8B --gpu 'RTX 3090' --runtime vllm --gpu-memory-utilization 0.5",
    "greedy": "Qwen/Qwen3-8B --gpu 'RTX 4090' --runtime vllm --gpu-memory-utilization 0.99",
    "flash": f"{OSS} --gpu A100 --attention flash",
    "eight": f"{LLAMA} --train full --gpu '8x H100' --tp 2 --dp 4 --zero 3",
    "shared": "meta-llama/Llama-3.1-70B-Instruct --train full --gpu '8x H100' --zero 3 --gradient-checkpointing",
    "unpacked": "Qwen/Qwen3-14B --gpu 'RTX 3090' --dtype fp8",
}


def answer(line: str) -> dict[str, Any]:
    """The first result."""
    found: dict[str, Any] = json.loads(run(*shlex.split(line), "--offline", "--format", "json").stdout)["results"][0]
    return found


def applied(line: str, option: str) -> str:
    """The line with an advised option, in the place of what it replaces."""
    words = shlex.split(line)
    for flag in [word for word in shlex.split(option.removeprefix("without ")) if word.startswith("--")]:
        if flag in words:
            at = words.index(flag)
            end = at + 2 if at + 1 < len(words) and not words[at + 1].startswith("--") else at + 1
            words[at:end] = []
    more = [] if option.startswith("without ") else shlex.split(option)
    return shlex.join([*words, *more])


@pytest.mark.slow
@pytest.mark.parametrize("line", ASKED.values(), ids=ASKED)
def test_each_option_answers_what_is_advised(line: str) -> None:
    rows = answer(line)["help"]
    assert rows
    for row in rows:
        found = answer(applied(line, row["option"]))
        (fit,) = found["fit"]
        assert found["memory"]["total"] == row["total"], row
        assert (fit["fits"] is True, fit["tight"]) == (row["fits"], row["tight"]), row


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("server", "without --gpu-memory-utilization"),
        ("greedy", "without --gpu-memory-utilization"),
        ("flash", "--attention sdpa"),
        ("shared", "--offload optimizer"),
        ("unpacked", "--dtype int8"),
    ],
)
def test_what_is_at_fault_is_named(name: str, option: str) -> None:
    rows = {row["option"]: row["fits"] for row in answer(ASKED[name])["help"]}
    assert rows[option] is True


def test_nothing_is_advised_that_is_refused_too() -> None:
    rows = answer("nvidia/Gemma-4-31B-IT-NVFP4 --train lora --gpu '8x B200'")["help"]
    assert not rows
