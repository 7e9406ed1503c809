"""Methods of PEFT other than LoRA: what they train and hold, as PEFT counts it (`fixtures/oracle/peft.json`)."""

from __future__ import annotations

import json
import statistics
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from hfmem import Model, Options, Report, estimate, inspect
from hfmem.api import report_on
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.recipe.peft import METHODS
from tests.measured.training import from_config
from tests.oracle.peak_cases import WORKSPACES
from tests.oracle.peft_steps import RANK, config
from tests.oracle.step_cases import config_of

RECORD: Final = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "peft.json").read_text(encoding="utf-8")
)
STEPS: Final = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "peft_steps.json").read_text(encoding="utf-8")
)
ROWS: Final = [row for row in RECORD["rows"] if "trained" in row]
HYBRID: Final = ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "prefix-tuning")
"""PEFT counts keys by the configuration, also of the recurrent layers that the first ones are."""
QWEN: Final = "Qwen/Qwen2.5-0.5B"


@cache
def _model(name: str) -> Model:
    return from_config(name, config_of(name))


def _report(row: dict[str, Any]) -> Report:
    targets = (row["targets"],) if "targets" in row else ()
    return report_on(_model(row["model"]), Options(train="lora", peft=row["method"], lora_targets=targets, seq=64))


def _held(report: Report) -> int:
    return sum(term.nbytes for term in report.estimate.terms if term.name == "frozen parts of adapters") // 4


def test_the_record_has_twenty_models_of_every_method() -> None:
    for method in METHODS:
        assert len({row["model"] for row in ROWS if row["method"] == method.name}) >= 20, method.name


@pytest.mark.parametrize("method", [method.name for method in METHODS])
def test_trained_parameters_are_those_that_peft_counts(method: str) -> None:
    rows = [row for row in ROWS if row["method"] == method and (row["model"], method) != HYBRID]
    found = {row["model"]: getattr(_report(row).estimate.training, "trainable", None) for row in rows}
    assert found == {row["model"]: row["trained"] for row in rows}


@pytest.mark.parametrize("method", ["boft", "trainable-tokens", "vera"])
def test_frozen_parts_are_those_that_peft_holds(method: str) -> None:
    rows = [row for row in ROWS if row["method"] == method]
    assert {row["model"]: _held(_report(row)) for row in rows} == {row["model"]: row["held"] for row in rows}


def _error(row: dict[str, Any]) -> float:
    wide = "autocast" in row
    asked = Options(
        train="lora",
        peft="lora" if row["method"] == "dora" else row["method"],
        lora_rank=RANK if row["method"] in ("dora", "lora") else None,
        dora=row["method"] == "dora",
        lora_targets=(row["targets"],) if row["targets"] else (),
        batch=row["batch"],
        seq=row["seq"],
        gradient_checkpointing=row["checkpointing"],
        precision="bf16-autocast" if row.get("autocast") else "bf16",
        lora_dtype="float32" if wide else "bfloat16",
        optimizer="adamw",
    )
    facts = report_on(from_config(row["model"], config(row)), asked).estimate.training
    assert facts is not None
    return (facts.allocated - WORKSPACES) / row["peak"] - 1


def test_steps_peak_as_pytorch_allocates_them() -> None:
    """Of two layers only; their first one has no gradient of its input and keeps a norm's tensor less, which is not
    subtracted, as it is nothing in a whole model."""
    rows = [row for row in STEPS["rows"] if "peak" in row]
    errors = [_error(row) for row in rows]
    assert len(rows) >= 100
    again = [error for error, row in zip(errors, rows, strict=True) if row["checkpointing"]]
    assert statistics.median(map(abs, errors)) <= 0.01
    assert statistics.median(map(abs, again)) <= 0.003
    assert min(errors) >= -0.015
    assert sum(error <= 0.035 for error in errors) >= 0.85 * len(errors)
    assert max(errors) <= 0.1


def test_steps_with_float32_adapters_peak_as_pytorch_allocates_them() -> None:
    """PEFT's own dtype on a base of bfloat16, with the same two layers: of the first one, no gradient of its input is
    made, which is nothing in a whole model."""
    errors = {
        (row["model"], row["method"], row["checkpointing"], row["autocast"]): _error(row) for row in STEPS["float32"]
    }
    assert len(errors) >= 50
    assert {method for _, method, _, _ in errors} == {"adalora", "boft", "ia3", "loha", "lokr", "lora", "oft", "vera"}
    assert {key: error for key, error in errors.items() if not -0.025 <= error <= 0.045} == {}
    assert statistics.median(map(abs, errors.values())) <= 0.015


def test_dora_with_float32_adapters_peaks_as_pytorch_allocates_it() -> None:
    """Too high where a layer has a norm after its last module (OLMo 2), and where its activation saves its result
    (OPT): recomputation begins elsewhere there."""
    rows = STEPS["dora"]
    errors = {(row["model"], row["seq"], row["checkpointing"], row["autocast"]): _error(row) for row in rows}
    assert len(errors) >= 80
    assert {key: error for key, error in errors.items() if not -0.016 <= error <= 0.065} == {}
    assert statistics.median(map(abs, errors.values())) <= 0.008


def test_virtual_tokens_make_rows_longer() -> None:
    model = inspect(QWEN, offline=True)
    longer = report_on(model, Options(train="lora", peft="prompt-tuning", virtual_tokens=56, seq=200))
    plain = report_on(model, Options(train="lora", peft="prefix-tuning", virtual_tokens=56, seq=256))
    assert _logits(longer) == _logits(plain)


def _logits(report: Report) -> int:
    terms = next(phase.terms for phase in report.estimate.phases if phase.name == "logits")
    return sum(term.nbytes for term in terms if term.name == "logits and loss")


@pytest.mark.parametrize(
    "asked",
    [
        {"peft": "ia3", "lora_rank": 8},
        {"peft": "prompt-tuning", "lora_targets": ("q_proj",)},
        {"peft": "vera", "dora": True},
        {"peft": "oft", "virtual_tokens": 8},
        {"peft": "xlora"},
        {"peft": "prefix-tuning", "gradient_checkpointing": True},
        {"peft": "prefix-tuning", "train": "dpo", "train_method": "lora"},
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidScenarioError):
        estimate(QWEN, **{"train": "lora", "offline": True, **asked})


def test_plans_name_the_method_and_a_rank_only_where_it_has_one() -> None:
    plans = {
        method: estimate(QWEN, train="lora", peft=method, seq=256, gpu="RTX 4090", offline=True).plans
        for method in ("vera", "ia3", "prefix-tuning")
    }
    assert all(plan.max_rank for plan in plans["vera"])
    assert [plan.max_rank for plan in plans["ia3"]] == [None, None]
    assert {(plan.adapters, plan.checkpointing) for plan in plans["prefix-tuning"]} == {("prefix tuning", False)}
