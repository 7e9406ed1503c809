"""`--trace` against PyTorch's own MemTracker, and against itself with all layers."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from hfmem import estimate, inspect
from hfmem.errors import UntraceableError
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model, interpret
from hfmem.probe.activations.step import Mode
from hfmem.probe.trace import Step, trace
from tests.command import process
from tests.oracle.record_trace import TARGET, config_of, peak

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

STEPS: list[dict[str, Any]] = json.loads(TARGET.read_text())["steps"]
LLAMA = "meta-llama/Llama-2-7b-hf"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def described(config: dict[str, Any]) -> Model:
    checkpoint = Checkpoint(ref=ModelRef(model_id="org/m"), commit=None, source="local", provenance="", config=config)
    return interpret(checkpoint)


def training(batch: int, seq: int, *, checkpointing: bool) -> Step:
    return Step(mode=Mode(checkpointing=checkpointing), batch=batch, seq=seq, optimizer="AdamW")


@pytest.mark.parametrize("row", STEPS, ids=lambda row: f"{row['batch']}x{row['seq']}")
def test_full_depth_as_memtracker_recorded_it(row: dict[str, Any]) -> None:
    step = training(row["batch"], row["seq"], checkpointing=row["checkpointing"])
    found = trace(described(config_of(row["model"])), step)
    assert found.peak == pytest.approx(row["peak"], rel=0.005)
    assert found.groups["optimizer"] + found.groups["temporary"] == pytest.approx(row["parts"]["Optstate"], rel=0.005)
    assert found.groups["gradients"] == pytest.approx(row["parts"]["Gradient"], rel=0.005)
    assert found.seconds < 60  # under 30 on an idle machine


@pytest.mark.parametrize(
    ("batch", "seq", "checkpointing", "phase"),
    [(1, 2048, False, "optimizer"), (4, 2048, True, "logits"), (2, 2048, False, "logits")],
)
def test_two_layers_as_memtracker_measures_them(batch: int, seq: int, checkpointing: bool, phase: str) -> None:
    config = config_of(LLAMA) | {"num_hidden_layers": 2}
    found = trace(described(config), training(batch, seq, checkpointing=checkpointing))
    assert found.phase == phase
    assert found.peak == pytest.approx(peak(config, batch, seq, checkpointing)["Total"], rel=0.005)


@pytest.mark.parametrize(
    ("model", "step"),
    [
        (LLAMA, training(16, 2048, checkpointing=True)),
        ("google/gemma-3-1b-it", training(1, 1024, checkpointing=False)),
        ("google/gemma-3-1b-it", Step(mode=Mode(method="prefill"), batch=1, seq=2048)),
        ("LiquidAI/LFM2-1.2B", training(1, 512, checkpointing=True)),
        ("mistralai/Mixtral-8x7B-v0.1", Step(mode=Mode(method="prefill"), batch=2, seq=512)),
    ],
)
def test_few_layers_extended_are_all_layers_run(model: str, step: Step) -> None:
    found = inspect(model, offline=True)
    few, whole = trace(found, step), trace(found, step, whole=True)
    assert few.layers < whole.layers == found.architecture.depth
    assert few.phase == whole.phase
    assert few.groups == pytest.approx(whole.groups, rel=0.001, abs=10_000)
    assert few.phases == pytest.approx(whole.phases, rel=0.001)


def test_a_report_has_the_peak_beside_the_estimate() -> None:
    report = estimate("openai-community/gpt2", seq=512, batch=2, dtype="bfloat16", trace=True, offline=True)
    assert report.trace is not None
    assert report.trace.phase in ("layers", "head")
    assert report.allocated == pytest.approx(report.trace.peak, rel=0.02)
    assert report.trace.groups["weights"] == pytest.approx(report.estimate.group("weights"), rel=0.001)


@pytest.mark.parametrize("option", [("--trace",), ("--device-map", "auto", "--gpu", "2xRTX 4090")])
def test_the_libraries_that_are_loaded_say_nothing(option: tuple[str, ...]) -> None:
    if "--device-map" in option:
        pytest.importorskip("accelerate")
    done = process("openai-community/gpt2", *option, "--offline", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_type_that_nobody_knows_cannot_be_traced() -> None:
    model = described(config_of(LLAMA) | {"model_type": "of_nobody", "architectures": ["OfNobody"]})
    with pytest.raises(UntraceableError, match="no class for of_nobody"):
        trace(model, training(1, 64, checkpointing=False))
