"""Peaks of training steps against those of real classes under fake tensors (`fixtures/oracle/steps.json`): full, LoRA
and DoRA; sdpa and eager attention; with and without checkpointing; two shapes; AdamW and SGD."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.oracle.step_cases import Case, cases, config_of, ours

RECORDED: dict[str, dict[str, dict[str, int]]] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "steps.json").read_text(encoding="utf-8")
)["bytes"]
CLOSE: Final = 0.02
EACH: Final = 7  # of the plain suite: every seventh case, from another one on with each model
MOST_OFF: Final = 0.01  # the share of all cases that may be further off

_FORWARD: Final = (
    "the forward pass that checkpointing repeats is higher than the backward pass, which alone has moments"
)
OFF: Final = {
    ("bigscience/bloom", "lora eager checkpointing 2x2048"): _FORWARD,
    ("tiiuae/falcon-40b", "lora eager checkpointing 2x2048"): _FORWARD,
    ("tiiuae/falcon-40b", "dora eager checkpointing 2x2048"): _FORWARD,
    ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "full sdpa checkpointing 2x2048"): _FORWARD,
    ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "full eager checkpointing 2x2048"): _FORWARD,
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "full sdpa saved 2x2048"): "2.1 % too high: why is not known",
}


def measured(name: str) -> Iterator[tuple[dict[str, Any], Case, str, int]]:
    config = config_of(name)
    for case in cases(config):
        for optimizer, nbytes in RECORDED[name].get(str(case), {}).items():
            yield config, case, optimizer, nbytes


@pytest.mark.parametrize(("number", "name"), list(enumerate(RECORDED)))
def test_a_sample(number: int, name: str) -> None:
    for config, case, optimizer, nbytes in list(measured(name))[number % EACH :: EACH]:
        if (name, str(case)) not in OFF:
            assert ours(config, case, optimizer) == pytest.approx(nbytes, rel=CLOSE), (str(case), optimizer)


@pytest.mark.slow
def test_all() -> None:
    off: dict[tuple[str, str], float] = {}
    count = 0
    for name in RECORDED:
        for config, case, optimizer, nbytes in measured(name):
            count += 1
            error = ours(config, case, optimizer) / nbytes - 1
            if abs(error) > CLOSE:
                off[name, f"{case} {optimizer}"] = error
    assert len(off) <= MOST_OFF * count, off
    assert {(name, case.rpartition(" ")[0]) for name, case in off} == OFF.keys()


def test_many_architectures() -> None:
    assert len({config_of(name)["model_type"] for name in RECORDED}) >= 35


# Peaks of the class with SGD, as in the record: Phi-3-mini-4k, whose window is shorter than its longest sequence.
@pytest.mark.parametrize(("seq", "nbytes"), [(2040, 2326842536), (2048, 2349422984), (4096, 3885382024)])
def test_a_window_as_short_as_the_sequence(seq: int, nbytes: int) -> None:
    config = {**config_of("microsoft/Phi-3.5-mini-instruct"), "sliding_window": 2047, "max_position_embeddings": 4096}
    del config["rope_scaling"]
    case = Case(method="full", attention="sdpa", checkpointing=False, batch=1, seq=seq)
    assert ours(config, case, "sgd") == pytest.approx(nbytes, rel=0.001)
