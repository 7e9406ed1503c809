"""Fragments of public logs (`fixtures/measured/logs.jsonl`), each held against what was started: the right term is
named, whether all agree, the log's machine differs, or something else was asked."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem import Against, inspect
from hfmem.against.read import read_log

LOGS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "fixtures" / "measured" / "logs.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
model = cache(lambda name: inspect(name, offline=True))
names = [f"{log['name'][:24]}-{number}" for number, log in enumerate(LOGS)]


def file(log: dict[str, Any], folder: Path) -> Path:
    found = folder / "server.log"
    found.write_text("\n".join(log["lines"]), encoding="utf-8")
    return found


def held(log: dict[str, Any], folder: Path, **asked: Any) -> Against:
    asked = log["asked"] | asked
    asked["gpu"] = tuple(asked.get("gpu", ()))
    if ":" in log["model"]:
        return hfmem.check(hfmem.estimate(log["model"], offline=True, **asked), file(log, folder))
    return hfmem.check(hfmem.estimate(model(log["model"]), **asked), file(log, folder))


def test_there_are_fragments_of_every_server() -> None:
    assert len(LOGS) >= 15
    assert {log["software"] for log in LOGS} == {"vllm", "sglang", "llamacpp"}
    assert all(log["source"].startswith("https://") for log in LOGS)


@pytest.mark.parametrize("log", LOGS, ids=names)
def test_the_right_term_is_named(log: dict[str, Any], tmp_path: Path) -> None:
    found = held(log, tmp_path)
    assert found.log.software == log["software"]
    assert found.rows
    assert found.off == log["off"], log["why"]


AGREEING = [log for log in LOGS if log["off"] is None and log["software"] == "vllm" and "gpu" in log["asked"]]


LOADING = [log for log in AGREEING if any("oading took" in line for line in log["lines"])]


@pytest.mark.parametrize("log", LOADING, ids=[log["name"][:30] for log in LOADING])
def test_weights_in_another_format_are_named(log: dict[str, Any], tmp_path: Path) -> None:
    assert held(log, tmp_path, dtype="float32").off == "weights"


def test_a_cache_in_another_format_is_named(tmp_path: Path) -> None:
    log = next(log for log in LOGS if "Qwen3-VL" in log["model"])
    assert held(log, tmp_path, kv_dtype="bfloat16").off == "per_token"


def test_a_smaller_share_of_the_card_is_named(tmp_path: Path) -> None:
    assert held(AGREEING[0], tmp_path, gpu_memory_utilization=0.5).off == "pool"


def test_a_peak_of_other_steps_is_named(tmp_path: Path) -> None:
    assert held(AGREEING[0], tmp_path, max_num_batched_tokens=65_536).off == "activations"


def test_tokens_and_bytes_give_the_cache_of_a_token(tmp_path: Path) -> None:
    log = next(log for log in LOGS if "Qwen3-VL" in log["model"])
    found = {reading.what: reading.value for reading in read_log(file(log, tmp_path)).readings}
    assert found["tokens"] == 100_468
    assert found["per_token"] == pytest.approx(131_072, rel=0.001)
