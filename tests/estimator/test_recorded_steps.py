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


def measured(name: str) -> Iterator[tuple[dict[str, Any], Case, str, int]]:
    config = config_of(name)
    for case in cases(config):
        for optimizer, nbytes in RECORDED[name].get(str(case), {}).items():
            yield config, case, optimizer, nbytes


@pytest.mark.parametrize(("number", "name"), list(enumerate(RECORDED)))
def test_a_sample(number: int, name: str) -> None:
    for config, case, optimizer, nbytes in list(measured(name))[number % EACH :: EACH]:
        assert ours(config, case, optimizer) == pytest.approx(nbytes, rel=CLOSE), (str(case), optimizer)


@pytest.mark.slow
def test_all() -> None:
    off: dict[tuple[str, str], float] = {}
    for name in RECORDED:
        for config, case, optimizer, nbytes in measured(name):
            error = ours(config, case, optimizer) / nbytes - 1
            if abs(error) > CLOSE:
                off[name, f"{case} {optimizer}"] = error
    assert not off


# Moments of the forward pass, of the same step as in the record: of scores that the layer before has returned (Falcon,
# BLOOM), and of scores that an indexer computes and saves nothing of (GLM-5).
@pytest.mark.parametrize(
    ("name", "method", "attention", "nbytes"),
    [
        ("tiiuae/falcon-40b", "lora", "eager", 12943376640),
        ("bigscience/bloom", "lora", "eager", 31419261376),
        ("zai-org/GLM-5", "full", "sdpa", 55769635080),
    ],
)
def test_a_forward_pass_may_be_the_peak(name: str, method: Any, attention: Any, nbytes: int) -> None:
    case = Case(method=method, attention=attention, checkpointing=True, batch=2, seq=2048)
    assert ours(config_of(name), case, "sgd") == pytest.approx(nbytes, rel=CLOSE)


def test_many_architectures() -> None:
    assert len({config_of(name)["model_type"] for name in RECORDED}) >= 35


# Peaks of the class with SGD, as in the record: Phi-3-mini-4k, whose window is shorter than its longest sequence.
@pytest.mark.parametrize(("seq", "nbytes"), [(2040, 2326842536), (2048, 2349422984), (4096, 3885382024)])
def test_a_window_as_short_as_the_sequence(seq: int, nbytes: int) -> None:
    config = {**config_of("microsoft/Phi-3.5-mini-instruct"), "sliding_window": 2047, "max_position_embeddings": 4096}
    del config["rope_scaling"]
    case = Case(method="full", attention="sdpa", checkpointing=False, batch=1, seq=seq)
    assert ours(config, case, "sgd") == pytest.approx(nbytes, rel=0.001)
