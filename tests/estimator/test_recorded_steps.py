"""Peaks of training steps against those of real classes under fake tensors (`fixtures/oracle/steps.json`): full, LoRA
and DoRA; sdpa and eager attention; with and without checkpointing; two shapes; AdamW and SGD; full training under
autocast. Encoder-decoders with long and short sources."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.oracle.step_cases import ENCODED, Case, cases, config_of, ours

RECORDED: dict[str, dict[str, dict[str, int]]] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "steps.json").read_text(encoding="utf-8")
)["bytes"]
CLOSE: Final = 0.02
MIXED: Final = 0.08
"""Recomputed layers under autocast: their copies are counted with the head's highest moment, which comes after them."""
ADAPTED: Final = 0.03
"""Encoder-decoders of a few layers with adapters: what the first one keeps ahead of its first adapter counts, and what
the last one has freed before its last adapter."""
APART: Final = {
    ("mistralai/Mixtral-8x7B-v0.1", "dora sdpa checkpointing 2x2048"): -0.020,
    ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "dora sdpa checkpointing 1x512"): 0.111,
    ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "dora eager checkpointing 1x512"): 0.111,
}
"""Cases further off than they may be, by how much; why is not found yet. One that is right by now fails here."""
EACH: Final = 7  # of the plain suite: every seventh case, from another one on with each model


def measured(name: str) -> Iterator[tuple[dict[str, Any], Case, str, int]]:
    config = config_of(name)
    for case in cases(config):
        for optimizer, nbytes in RECORDED[name].get(str(case), {}).items():
            yield config, case, optimizer, nbytes


def beyond(case: Case, told: int, nbytes: int, *, name: str = "") -> float:
    """How far an estimate is off, if that is more than it may be, or another error than is known."""
    error, high = told / nbytes - 1, CLOSE
    if (known := APART.get((name, str(case)))) is not None:
        return 0.0 if error == pytest.approx(known, abs=0.001) else error
    if case.checkpointing and case.precision == "autocast-bf16":
        high = MIXED
    elif case.source and case.method == "lora":
        high = ADAPTED
    return 0.0 if -CLOSE <= error <= high else error


@pytest.mark.parametrize(("number", "name"), list(enumerate(RECORDED)))
def test_a_sample(number: int, name: str) -> None:
    for config, case, optimizer, nbytes in list(measured(name))[number % EACH :: EACH]:
        assert not beyond(case, ours(config, case, optimizer), nbytes, name=name), (str(case), optimizer)


@pytest.mark.slow
def test_all() -> None:
    off: dict[tuple[str, str], float] = {}
    for name in RECORDED:
        for config, case, optimizer, nbytes in measured(name):
            if error := beyond(case, ours(config, case, optimizer), nbytes, name=name):
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


@pytest.mark.parametrize("name", ENCODED)
def test_encoders_beside_decoders(name: str) -> None:
    """A long source sets the peak in the encoder, which is recomputed, saved, adapted and cast as the decoder is."""
    rows = list(measured(name))
    assert len(rows) == 36
    for config, case, optimizer, nbytes in rows[:: 1 if name.startswith("openai") else 3]:
        assert not beyond(case, ours(config, case, optimizer), nbytes, name=name), (str(case), optimizer)


def test_many_architectures() -> None:
    assert len({config_of(name)["model_type"] for name in RECORDED}) >= 35


# Peaks of the class with SGD, as in the record: Phi-3-mini-4k, whose window is shorter than its longest sequence.
@pytest.mark.parametrize(("seq", "nbytes"), [(2040, 2326842536), (2048, 2349422984), (4096, 3885382024)])
def test_a_window_as_short_as_the_sequence(seq: int, nbytes: int) -> None:
    config = {**config_of("microsoft/Phi-3.5-mini-instruct"), "sliding_window": 2047, "max_position_embeddings": 4096}
    del config["rope_scaling"]
    case = Case(method="full", attention="sdpa", checkpointing=False, batch=1, seq=seq)
    assert ours(config, case, "sgd") == pytest.approx(nbytes, rel=0.001)
