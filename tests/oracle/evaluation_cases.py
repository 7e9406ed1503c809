"""Evaluations during training that are measured, and what we say of them. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from hfmem import Options
from hfmem.api import report_on
from tests.measured.training import from_config
from tests.oracle.step_cases import config_of

__all__ = ["CASES", "RECORD", "Evaluated", "case_config", "ours"]

RECORD: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "evaluation.json"
MODELS: Final = (
    "meta-llama/Meta-Llama-3-8B",
    "Qwen/Qwen3-0.6B",
    "microsoft/phi-2",
    "google/gemma-3-1b-it",
    "stabilityai/stablelm-3b-4e1t",
    "openai-community/gpt2",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """An evaluation of so many batches: of the loss alone, or with all logits; `accumulation` batches of these are
    kept on the accelerator, or all (0)."""

    model: str
    precision: Literal["bf16", "autocast-bf16"]
    batch: int
    seq: int
    logits: bool = False
    batches: int = 5
    accumulation: int = 0

    def __str__(self) -> str:
        kept = f"logits {self.accumulation or self.batches}" if self.logits else "loss"
        return f"{self.model} {self.precision} {self.batch}x{self.seq} {kept}"


def _cases() -> Iterator[Evaluated]:
    for model in MODELS:
        for precision in ("bf16", "autocast-bf16"):
            longest = 1024 if model == "openai-community/gpt2" else 1536
            yield Evaluated(model=model, precision=precision, batch=4, seq=longest)
            for accumulation in (0, 2, 1):
                yield Evaluated(
                    model=model, precision=precision, batch=2, seq=512, logits=True, accumulation=accumulation
                )


CASES: Final = tuple(_cases())


def case_config(case: Evaluated) -> dict[str, Any]:
    """The model's configuration with its first layers."""
    return config_of(case.model)


def ours(case: Evaluated) -> int:
    """Bytes above the weights at the peak of our phase."""
    options = Options(
        train="full",
        batch=1,
        seq=case.seq,
        precision=case.precision,
        optimizer="sgd",
        eval_batch_size=case.batch,
        eval_logits=case.logits,
        eval_samples=case.batch * case.batches if case.logits else None,
        eval_accumulation_steps=case.accumulation or None,
    )
    estimate = report_on(from_config("model", case_config(case)), options).estimate
    (phase,) = (phase for phase in estimate.phases if phase.name == "evaluation")
    return sum(phase.group(group) for group in ("activations", "temporary"))
