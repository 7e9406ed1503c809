"""Which steps of TRL's trainers are measured, and what we say of each. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hfmem import Options
from hfmem.api import report_on
from tests.measured.training import from_config
from tests.oracle.peak_cases import WORKSPACES, shortened

__all__ = [
    "CASES",
    "GENERATIONS",
    "MODELS",
    "RECORD",
    "Case",
    "Generation",
    "case_config",
    "generation_key",
    "key_of",
    "ours",
    "ours_generating",
]

RECORD: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "trl.json"
LAYERS: Final = 4
MODELS: Final = (
    "meta-llama/Meta-Llama-3-8B",
    "Qwen/Qwen3-8B",
    "mistralai/Mistral-7B-v0.1",
    "microsoft/phi-2",
    "allenai/OLMo-2-0325-32B",
    "togethercomputer/RedPajama-INCITE-7B-Base",
)
_TRAINERS: Final = ("sft", "dpo", "kto", "reward", "grpo", "rloo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A step.

    Attributes:
        batch: as `--batch`: pairs of DPO and Reward.
        completion: scored tokens of a row; 0 for all.
        padded: whether rows have padding, and with it a mask.
    """

    model: str
    trainer: str
    method: str = "full"
    batch: int = 2
    seq: int = 1024
    completion: int = 0
    checkpointing: bool = True
    padded: bool = True
    dtype: str = "float32"

    @property
    def rows(self) -> int:
        """Rows of a forward pass."""
        return self.batch * (2 if self.trainer in ("dpo", "reward") else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A generation phase: rows, and tokens of prompts and completions."""

    model: str
    method: str
    rows: int
    prompt: int
    completion: int


GENERATIONS: Final = tuple(
    Generation(model=model, method=method, rows=rows, prompt=prompt, completion=completion)
    for model in MODELS
    for method, rows, prompt, completion in (
        ("full", 8, 512, 512),
        ("lora", 8, 512, 512),
        ("full", 8, 1500, 500),
        ("lora", 16, 128, 1900),
    )
)


def generation_key(case: Generation) -> str:
    """Its name in the record."""
    return f"{case.method} {case.model} {case.rows}x{case.prompt}+{case.completion}"


def ours_generating(case: Generation) -> int:
    """Bytes of the phase above what stays."""
    options = Options(
        train="grpo",
        train_method=case.method,
        seq=case.prompt + case.completion,
        max_completion_length=case.completion,
        batch=case.rows,
        num_generations=case.rows,
        lora_targets=("all-linear",) if case.method == "lora" else (),
    )
    estimate = report_on(from_config("model", shortened(case.model, LAYERS)), options).estimate
    (phase,) = (phase for phase in estimate.phases if phase.name == "generation")
    return sum(phase.group(group) for group in ("kv_cache", "activations", "temporary"))


def _cases() -> tuple[Case, ...]:
    found = []
    for trainer in _TRAINERS:
        completion = 512 if trainer in ("grpo", "rloo", "dpo") else 0
        for model in MODELS:
            for method in ("full", "lora"):
                for checkpointing in (True, False):
                    found.append(
                        Case(
                            model=model,
                            trainer=trainer,
                            method=method,
                            checkpointing=checkpointing,
                            completion=completion,
                        )
                    )
    return tuple(found)


CASES: Final = _cases()


def key_of(case: Case) -> str:
    """Its name in the record."""
    words = [case.trainer, case.method, case.model, f"{case.batch}x{case.seq}", f"c{case.completion}"]
    words += ["gc"] * case.checkpointing + ["padded"] * case.padded + [case.dtype]
    return " ".join(words)


def case_config(case: Case) -> dict[str, Any]:
    """The model's configuration, cut to a few layers."""
    return shortened(case.model, LAYERS)


def ours(case: Case) -> int:
    """Allocated bytes at our peak, without cuBLAS's workspaces."""
    options = Options(
        train=case.trainer,
        train_method=case.method,
        batch=case.batch,
        seq=case.seq,
        max_completion_length=case.completion or None,
        num_generations=2 if case.trainer in ("grpo", "rloo") else None,
        gradient_checkpointing=case.checkpointing,
        padding=case.padded,
        dtype=case.dtype if case.dtype != "float32" else None,
        lora_rank=16 if case.method == "lora" else None,
        lora_targets=("all-linear",) if case.method == "lora" else (),
    )
    facts = report_on(from_config("model", case_config(case)), options).estimate.training
    assert facts is not None
    return facts.allocated - WORKSPACES
