"""Evaluation between steps, against what the Trainer's own loop allocates (`fixtures/oracle/evaluation.json`)."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from hfmem import Options, inspect
from hfmem.api import report_on
from hfmem.errors import HfmemError
from hfmem.estimator.values import Phase
from tests.oracle.evaluation_cases import CASES, RECORD, Evaluated, ours

RECORDED: dict[str, int] = json.loads(RECORD.read_text(encoding="utf-8"))["bytes"]
LLAMA: Final = "meta-llama/Meta-Llama-3-8B"
VOCABULARY: Final = 128_256


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_peak(case: Evaluated) -> None:
    assert ours(case) == pytest.approx(RECORDED[str(case)], rel=0.01)


def _phase(**options: Any) -> Phase:
    asked = Options(train="lora", lora_targets=("all-linear",), seq=1024, **options)
    phases = report_on(inspect(LLAMA, offline=True), asked).estimate.phases
    return next(phase for phase in phases if phase.name == "evaluation")


def _logits(phase: Phase) -> int:
    return sum(term.nbytes for term in phase.terms if term.name == "logits of an evaluation")


def test_logits_of_all_replicas_are_on_each() -> None:
    """20 batches of 2 rows: joined in bfloat16, those of 19 batches, of one, and of all."""
    options = {"eval_batch_size": 2, "eval_logits": True, "precision": "bf16"}
    alone = _phase(**options, eval_samples=40)
    four = _phase(**options, eval_samples=160, gpus=4)
    assert _logits(alone) == 2 * 20 * (2 * 1024 * VOCABULARY * 2)
    assert _logits(four) == 4 * _logits(alone)


def test_no_more_batches_than_there_are() -> None:
    options = {"eval_batch_size": 2, "eval_logits": True, "eval_accumulation_steps": 50}
    assert _phase(**options, eval_samples=12).total == _phase(**{**options, "eval_accumulation_steps": 6}).total


def test_there_is_none_by_default() -> None:
    phases = report_on(inspect(LLAMA, offline=True), Options(train="full", seq=128)).estimate.phases
    assert "evaluation" not in {phase.name for phase in phases}


@pytest.mark.parametrize(
    "options",
    [
        {"eval_samples": 10},
        {"eval_logits": True, "eval_batch_size": 2},
        {"eval_batch_size": 0},
        {"eval_batch_size": 2, "train": "dpo"},
    ],
)
def test_what_does_not_go_together(options: dict[str, Any]) -> None:
    with pytest.raises(HfmemError):
        report_on(inspect(LLAMA, offline=True), Options(**{"train": "full", **options}))
