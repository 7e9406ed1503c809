"""`--device-map`: modules are put where Accelerate put them, without it; and what lies and runs where adds up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem import answers
from hfmem.engines.transformers.engine import ENGINE
from hfmem.engines.transformers.options import limit_of
from hfmem.engines.transformers.outline import outlined
from hfmem.engines.transformers.placed import SHARED, runs
from hfmem.engines.transformers.placement import balanced, placed, within
from hfmem.fetcher.catalog import find
from hfmem.fetcher.values import ModelRef
from hfmem.hardware import detect
from hfmem.hardware.values import Machine
from hfmem.mapper.interpret import Model, interpret
from hfmem.mapper.modules import Device, Modules
from hfmem.report.placement import placement_lines
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve
from tests.command import run

RECORD: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "device_map.json").read_text(encoding="utf-8")
)
MIB, GIB = 2**20, 2**30


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate is not asked itself, whether or not it is installed."""
    monkeypatch.setattr(answers, "find_spec", lambda _: None)


@cache
def model_of(name: str) -> Model:
    checkpoint = find(ModelRef(model_id=name))
    assert checkpoint is not None
    return interpret(checkpoint)


@cache
def modules_of(name: str, dtype: str) -> Modules:
    options = Options(runtime="transformers", dtype=dtype)
    return outlined(ENGINE, model_of(name), resolve(options, model_of(name)))


def cases() -> Iterator[Any]:
    for row in RECORD["models"]:
        for number, machine in enumerate(row["machines"]):
            yield pytest.param(row, machine, id=f"{row['model']}-{row['quantised'] or row['dtype']}-{number}")


@pytest.mark.parametrize(("row", "machine"), list(cases()))
def test_modules_are_put_where_accelerate_put_them(row: dict[str, Any], machine: dict[str, Any]) -> None:
    modules = modules_of(row["model"], row["quantised"] or row["dtype"])
    free: dict[Device, float] = dict(machine["free"])
    room = balanced(modules, within(free, machine["way"], asked=False), machine["way"])
    found = placed(modules, {device: size * SHARED.get(row["quantised"], 1) for device, size in room.items()})
    shown = [
        [device, list(runs([name for name, where in found.items() if where == device]))]
        for device in dict.fromkeys(found.values())
    ]
    assert shown == machine["map"]


def test_there_are_at_least_twelve_models_on_four_machines() -> None:
    plain = {row["model"] for row in RECORD["models"] if not row["quantised"]}
    assert len(plain) >= 12
    assert all(len(row["machines"]) >= 4 for row in RECORD["models"])


def result(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["results"][0]
    return found


def test_weights_and_cache_of_all_devices_are_those_of_the_model() -> None:
    """Llama-2-13B on two cards, by hand: 40 layers of 317,204,480 parameters, two tables of 32,000 × 5,120, a norm."""
    name = "meta-llama/Llama-2-13b-hf"
    alone = result(name, "--gpu", "A100-80GB")
    two = result(name, "--gpu", "2xRTX 4090", "--device-map", "auto")
    rows = {rank: row for row in two["per_gpu"] for rank in row["ranks"]}
    devices = {row["device"]: row for row in two["device_map"]["devices"]}
    layer, table, norm = 2 * 317_204_480, 2 * 32_000 * 5_120, 2 * 5_120
    first = len(devices[0]["layers"])
    assert devices[0]["layers"] == list(range(first))
    assert devices[1]["layers"] == list(range(first, 40))
    assert rows[0]["weights"] == table + first * layer
    assert rows[1]["weights"] == table + (40 - first) * layer + norm
    assert two["memory_all_gpus"]["weights"] == alone["memory"]["weights"]
    assert rows[0]["kv_cache"] == first * 2 * 4096 * 5120 * 2
    assert two["memory_all_gpus"]["kv_cache"] == alone["memory"]["kv_cache"]
    assert two["host"]["total"] == 0
    assert two["scenario"]["device_map"] == "auto"


def test_what_is_on_the_host_runs_on_the_first_accelerator() -> None:
    """Its cache is there, and its largest module comes beside: of Llama-2-13B, the head."""
    found = result("meta-llama/Llama-2-13b-hf", "--gpu", "RTX 4090", "--device-map", "auto", "--seq", "2048")
    devices = {row["device"]: row for row in found["device_map"]["devices"]}
    layer, table = 2 * 317_204_480, 2 * 32_000 * 5_120
    on_card, on_host = len(devices[0]["layers"]), len(devices["cpu"]["layers"])
    assert on_card + on_host == 40
    assert on_host > 0
    assert "lm_head" in devices["cpu"]["modules"]
    brought = next(term for term in found["terms"] if term["name"] == "offloaded module while it runs")
    assert brought["bytes"] == table  # the head is larger than any matrix of a layer
    assert found["memory"]["weights"] == table + on_card * layer + brought["bytes"]
    assert found["memory"]["kv_cache"] == 40 * 2 * 2048 * 5120 * 2
    assert found["host"]["weights"] == on_host * layer + table + 2 * 5_120
    assert any("brought to the accelerator" in note for note in found["notes"])


def test_experts_come_as_one_module() -> None:
    found = result("mistralai/Mixtral-8x7B-v0.1", "--gpu", "4xRTX 4090", "--device-map", "auto")
    brought = [term["bytes"] for term in found["terms"] if term["name"] == "offloaded module while it runs"]
    assert brought == [8 * 3 * 14_336 * 4_096 * 2]


def test_limits_are_what_is_placed_by() -> None:
    found = result("Qwen/Qwen3-0.6B", "--device-map", "auto", "--max-memory", "0=0.5GiB,1=0.5GiB,cpu=0.3GiB")
    devices = {row["device"]: row for row in found["device_map"]["devices"]}
    assert [row["limit"] for row in devices.values()] == [GIB // 2, GIB // 2, int(0.3 * GIB), None][: len(devices)]
    assert sum(row["weights"] for row in devices.values()) == 2 * 596_049_920 + 512  # and the rotary frequencies
    assert found["scenario"]["max_memory"] == {"0": GIB // 2, "1": GIB // 2, "cpu": int(0.3 * GIB)}


def test_what_nothing_limits_goes_to_the_disk() -> None:
    """Without a limit for the host, `max_memory` gives it nothing."""
    found = result("Qwen/Qwen3-0.6B", "--device-map", "auto", "--max-memory", "0=0.8GiB")
    devices = {row["device"]: row for row in found["device_map"]["devices"]}
    assert devices["disk"]["layers"]
    assert found["host"]["total"] == 0
    assert any("offload_folder" in note for note in found["notes"])


def test_it_fits_if_every_accelerator_has_room() -> None:
    few = result("meta-llama/Llama-2-13b-hf", "--gpu", "RTX 4090", "--device-map", "auto", "--seq", "512")["fit"][0]
    assert (few["fits"], few["gpus_needed"]) == (True, 2)
    long = result("meta-llama/Llama-2-13b-hf", "--gpu", "RTX 4090", "--device-map", "auto", "--seq", "4096")
    assert long["fit"][0]["fits"] is False


def test_modules_are_put_on_all_accelerators_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `device_map` takes all that are visible; otherwise --gpu auto tells how many are needed."""
    card = replace(detect.machine("T4").accelerator, basis="detected")
    monkeypatch.setattr(detect, "detect", lambda: (Machine(accelerator=card, count=4),))
    report = hfmem.estimate("meta-llama/Llama-2-13b-hf", device_map="auto", gpu="auto", offline=True)
    placement = report.estimate.placement
    assert placement is not None
    assert [place.device for place in placement.places] == [0, 1, 2, 3, "cpu"]
    assert sum(len(place.layers) for place in placement.places[:4]) == 40
    assert placement.places[4].limit == pytest.approx(0.9 * detect.physical_memory(), abs=1)
    assert report.scenario.parallel.gpus == 4


def test_bitsandbytes_refuses_modules_on_the_host() -> None:
    """validate_environment of transformers 5.24.0, quantizers/quantizer_bnb_4bit.py:70-81."""
    small = ("meta-llama/Llama-2-13b-hf", "--device-map", "auto", "--dtype", "nf4", "--seq", "64")
    away = result(*small, "--gpu", "7GB")
    assert {row["device"] for row in away["device_map"]["devices"] if row["modules"]} == {0, "cpu"}
    assert away["fit"][0]["fits"] is False
    assert "bitsandbytes refuses modules on the host" in away["fit"][0]["refused"]
    assert result(*small, "--gpu", "12GB")["fit"][0]["fits"] is True


def test_names_of_modules_are_folded() -> None:
    report = hfmem.estimate("google/gemma-2-9b-it", device_map="auto", gpu="2xT4", offline=True)
    whole, narrow = (placement_lines(report.estimate.placement, "GiB", width) for width in (None, 72))
    assert max(map(len, whole)) > 72 >= max(map(len, narrow))
    assert len(narrow) > len(whole)


@pytest.mark.parametrize(
    ("word", "size"),
    [
        ("0=20GiB", 20 * GIB),
        ("1 = 1.5GiB", int(1.5 * GIB)),
        ("0=20GB", 20 * 10**9),
        ("0=20gb", 20 * 10**9 // 8),  # bits, as Accelerate reads it
        ("cpu:512MiB", 512 * MIB),
        ("0=8000000000", 8 * 10**9),
    ],
)
def test_sizes_are_read_as_accelerate_reads_them(word: str, size: int) -> None:
    found = limit_of(word)
    assert found is not None
    assert found[1] == size


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--device-map", "auto"), "needs the accelerators"),
        (("--device-map", "auto", "--gpu", "A10", "--tp", "2"), "--gpus N"),
        (("--device-map", "auto", "--gpu", "A10", "--train", "lora"), "is for inference"),
        (("--device-map", "auto", "--gpu", "A10", "--runtime", "vllm"), "transformers"),
        (("--device-map", "auto", "--gpu", "A10", "--runtime", "llamacpp"), "transformers"),
        (("--device-map", "auto", "--gpu", "cpu"), "without --gpu cpu"),
        (("--max-memory", "0=1GiB"), "needs --device-map"),
        (("--device-map", "auto", "--max-memory", "0=big"), "0=20GiB"),
        (("--device-map", "auto", "--max-memory", "cpu=1GiB"), "at least one accelerator"),
        (("--device-map", "auto", "--max-memory", "0=1GiB,1=1GiB", "--gpus", "1"), "--gpus"),
        (("--device-map", "everywhere", "--gpu", "A10"), "balanced"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: tuple[str, ...], words: str) -> None:
    done = run("Qwen/Qwen3-0.6B", *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_class_without_a_line_names_the_next_step() -> None:
    done = run("google-t5/t5-base", "--device-map", "auto", "--gpu", "T4")
    assert done.returncode == 1
    assert "accelerate" in done.stderr


def test_python_has_the_same() -> None:
    report = hfmem.estimate("Qwen/Qwen3-0.6B", device_map="auto", gpu="RTX 4090", offline=True)
    placement = report.estimate.placement
    assert placement is not None
    assert placement.modules == (("", 0),)
