"""TRL's trainers against the peaks of their real steps (`fixtures/oracle/trl.json`)."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from hfmem import Options, inspect
from hfmem.api import report_on
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.recipe.trainers import TRAINERS
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.estimator.values import Estimate
from hfmem.options.words import OBJECTIVES
from hfmem.refusals.training import GenerationsError, TrainerError
from tests.oracle.trl_cases import (
    CASES,
    GENERATIONS,
    MODELS,
    RECORD,
    Case,
    Generation,
    generation_key,
    key_of,
    ours,
    ours_generating,
)

RECORDED: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
CLOSE: Final = 0.03
LLAMA: Final = "meta-llama/Meta-Llama-3-8B"


def _estimate(**options: Any) -> Estimate:
    return report_on(inspect(LLAMA, offline=True), Options(**options)).estimate


def _training(**options: Any) -> TrainingScenario:
    scenario = report_on(inspect(LLAMA, offline=True), Options(**options)).scenario
    assert isinstance(scenario, TrainingScenario)
    return scenario


@pytest.mark.parametrize("case", [pytest.param(case, id=key_of(case)) for case in CASES])
def test_peak(case: Case) -> None:
    assert ours(case) == pytest.approx(RECORDED["steps"][key_of(case)]["peak"], rel=CLOSE)


@pytest.mark.parametrize("case", [pytest.param(case, id=generation_key(case)) for case in GENERATIONS])
def test_generation(case: Generation) -> None:
    """Never less than measured; more where a class casts its keys back, and where a cast is gone at the peak."""
    measured = RECORDED["generation"][generation_key(case)]
    assert 0.99 * measured < ours_generating(case) < 1.25 * measured


def test_six_models_of_each_trainer() -> None:
    assert {key_of(case) for case in CASES} == {*RECORDED["steps"]}
    measured = {(case.trainer, case.model) for case in CASES}
    assert len(measured) == 6 * len({case.trainer for case in CASES}) == 6 * 6
    assert len(MODELS) == 6


def test_every_trainer_has_its_word() -> None:
    assert tuple(row.name for row in TRAINERS) == OBJECTIVES
    assert all(row.source and (not row.losses or row.loss in row.losses) for row in TRAINERS)


def test_defaults_of_trl() -> None:
    scenario = _training(train="sft", batch=2)
    training = scenario.training
    assert (scenario.seq, scenario.batch) == (1024, 2)
    assert (training.checkpointing, training.batching, training.optimizer.name) == ("full", "padded", "adamw-fused")
    assert (training.precision.weights, training.precision.autocast) == ("float32", True)


def test_own_choices_win() -> None:
    scenario = _training(train="sft", seq=2048, packing=True, dtype="bfloat16", gradient_checkpointing=False)
    training = scenario.training
    assert (scenario.seq, training.checkpointing, training.batching) == (2048, "none", "joined")
    assert training.precision.weights == "bfloat16"


def test_reference_copy_is_a_second_model() -> None:
    alone, both = (
        _estimate(train="dpo", precompute_ref_log_probs=alone, seq=512).group("weights") for alone in (True, False)
    )
    assert alone is not None
    assert both == 2 * alone


def test_adapters_need_no_copy() -> None:
    found = _estimate(train="dpo", train_method="lora", seq=512)
    assert found.phases[0].name == "reference"
    assert all(term.name != "reference model" for term in found.terms)


@pytest.mark.parametrize(("beta", "expected"), [(None, False), (0.0, False), (0.04, True)])
def test_grpo_has_a_reference_with_beta_only(beta: float | None, expected: bool) -> None:
    found = _estimate(train="grpo", beta=beta, seq=1024)
    assert any(term.name == "reference model" for term in found.terms) is expected


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"train": "grpo", "batch": 3}, GenerationsError),
        ({"train": "grpo", "seq": 256, "max_completion_length": 512}, TrainerError),
        ({"train": "dpo", "stack": "megatron"}, TrainerError),
        ({"train": "dpo", "padding_free": True}, InvalidScenarioError),
        ({"train": "dpo", "packing": True}, InvalidScenarioError),
        ({"train": "sft", "packing": True, "padding": True}, InvalidScenarioError),
        ({"train": "sft", "loss_type": "sigmoid"}, InvalidScenarioError),
        ({"train": "full", "num_generations": 4}, InvalidScenarioError),
    ],
    ids=str,
)
def test_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        _estimate(**options)


@pytest.mark.parametrize("name", ["google-t5/t5-small", "openai/whisper-large-v3"])
def test_encoder_decoders_are_no_causal_models(name: str) -> None:
    """trl 1.16.0, trainer/utils.py:1548 (`add_fused_lm_head`: a causal language model to patch)."""
    with pytest.raises(TrainerError):
        report_on(inspect(name, offline=True), Options(train="sft"))
    assert report_on(inspect(name, offline=True), Options(train="full")).estimate.total


def test_generation_is_an_inference_beside_the_optimizer() -> None:
    """Its cache is that of the same rows in inference, with keys in float32; all that is trained is cast."""
    found = _estimate(train="grpo", seq=1536, max_completion_length=1024)
    phase = next(phase for phase in found.phases if phase.name == "generation")
    cache = report_on(inspect(LLAMA, offline=True), Options(batch=8, seq=1536, prompt=512)).estimate.group("kv_cache")
    assert cache == 8 * 1536 * 32 * 2 * 8 * 128 * 2
    assert phase.group("kv_cache") == cache * 3 // 2
    casts = sum(term.nbytes for term in phase.terms if term.group == "temporary")
    assert casts == 2 * (8_030_261_248 - 128256 * 4096 - 65 * 4096)  # all but the embedding and the norms
    assert phase.group("gradients") == 0
    assert phase.group("optimizer") == 8 * 8_030_261_248


def test_several_micro_batches_are_generated_at_once() -> None:
    one, four = (
        next(
            phase for phase in _estimate(train="rloo", gradient_accumulation=count).phases if phase.name == "generation"
        )
        for count in (1, 4)
    )
    assert four.group("kv_cache") == 2 * one.group("kv_cache")  # of one micro-batch two rows, of four one each


@pytest.mark.parametrize("sleeps", [False, True])
def test_vllm_takes_its_share(sleeps: bool) -> None:
    options: dict[str, Any] = {"train": "grpo", "vllm_mode": "colocate", "gpu": ("H100",), "train_method": "lora"}
    report = report_on(inspect(LLAMA, offline=True), Options(**options, vllm_enable_sleep_mode=sleeps))
    share = int(0.3 * report.fits[0].gpu.memory) + 1
    phases = {phase.name: phase for phase in report.estimate.phases}
    there = {name: any(term.name == "vLLM's share" for term in phase.terms) for name, phase in phases.items()}
    assert there == (
        {"generation": True, **dict.fromkeys(("logits", "backward", "optimizer"), False)}
        if sleeps
        else dict.fromkeys(("logits", "backward", "optimizer"), True)
    )
    term = next(t for phase in phases.values() for t in phase.terms if t.name == "vLLM's share")
    assert term.nbytes == pytest.approx(share, abs=1)


def test_vllm_on_a_server_takes_nothing_here() -> None:
    found = _estimate(train="grpo", vllm_mode="server")
    assert [phase.name for phase in found.phases] == ["logits", "backward", "optimizer"]


def test_vllm_on_an_unnamed_accelerator_is_a_lower_bound() -> None:
    assert _estimate(train="grpo", vllm_mode="colocate").is_lower_bound
    assert not _estimate(train="grpo", vllm_mode="server").is_lower_bound
