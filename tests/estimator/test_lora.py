"""Trainable parameters of adapters, against PEFT's own count (`fixtures/oracle/lora.json`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfmem import estimate, inspect
from hfmem.errors import InvalidScenarioError
from hfmem.mapper.lora import adapters, default_targets

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "lora.json").read_text(encoding="utf-8")
)
CASES = [
    (name, choice, count)
    for name, choices in RECORDED["trainable"].items()
    for choice, count in choices.items()
    if count is not None
]


def trainable(name: str, choice: str) -> int | None:
    """Ours; None where there is no default."""
    model = inspect(name, offline=True)
    targets = default_targets(model.architecture.model_type or "") if choice == "default" else tuple(choice.split(","))
    if targets is None or model.parameters is None:
        return None
    return sum(adapter.parameters(RECORDED["rank"]) for adapter in adapters(model, targets))


@pytest.mark.parametrize(("name", "choice", "count"), CASES, ids=str)
def test_adapters_have_the_parameters_that_peft_counts(name: str, choice: str, count: int) -> None:
    assert trainable(name, choice) == count


def test_enough_models_and_choices() -> None:
    choices = [sum(count is not None for count in counts.values()) for counts in RECORDED["trainable"].values()]
    assert sum(count >= 3 for count in choices) >= 20


def test_the_report_says_how_many_are_trained() -> None:
    report = estimate("Qwen/Qwen3-0.6B", offline=True, train="lora", lora_targets=("q_proj", "v_proj"))
    assert report.estimate.training is not None
    assert report.estimate.training.trainable == 1_146_880


def test_dora_adds_a_magnitude_a_row() -> None:
    plain = estimate("Qwen/Qwen3-0.6B", offline=True, train="lora", lora_targets=("q_proj",)).estimate.training
    dora = estimate(
        "Qwen/Qwen3-0.6B", offline=True, train="lora", lora_targets=("q_proj",), dora=True
    ).estimate.training
    assert plain is not None
    assert dora is not None
    assert dora.trainable - plain.trainable == 28 * 2048


def test_a_type_without_default_needs_names() -> None:
    with pytest.raises(InvalidScenarioError, match="--lora-targets"):
        estimate("LiquidAI/LFM2-1.2B", offline=True, train="lora")


def test_a_name_that_no_module_has_is_refused() -> None:
    with pytest.raises(InvalidScenarioError, match="no module is named"):
        estimate("openai-community/gpt2", offline=True, train="lora", lora_targets=("query",))


def test_names_of_the_language_model_leave_its_towers_alone() -> None:
    """PEFT's own choice for Gemma 4 is a pattern for the text model."""
    assert default_targets("gemma4") == ("language_model.q_proj", "language_model.v_proj")
    model = inspect("google/gemma-3-4b-it", offline=True)
    text, everywhere = (adapters(model, (name,)) for name in ("language_model.q_proj", "q_proj"))
    assert {adapter.group.component for adapter in text} == {"attention"}
    assert {adapter.group.component for adapter in everywhere} == {"attention", "vision"}
