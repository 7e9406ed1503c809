"""Steps that are really run on the CPU, and what we say of them. Needs no PyTorch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from hfmem import Options
from hfmem.api import report_on
from tests.measured.training import from_config
from tests.oracle.peak_cases import RANK, TARGETS, WORKSPACES
from tests.oracle.step_cases import config_of as shortened

__all__ = ["CASES", "Real", "above_weights", "config_of"]


def config_of(name: str) -> dict[str, Any]:
    """A model's configuration with its first layers and without dropout, whose masks a CPU keeps in another dtype."""
    own = {key: 0.0 if re.search("pdrop|dropout", key) else value for key, value in shortened(name).items()}
    return own | dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)  # 0.1 in GPT-2's class


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """One step of a model's first layers: with SGD, or of a trainer of TRL with its defaults, where the optimizer's
    states are there before it."""

    model: str
    method: Literal["full", "lora"]
    precision: Literal["fp32", "bf16"]
    checkpointing: bool = False
    batch: int
    seq: int
    trainer: Literal["", "sft", "dpo"] = ""

    def __str__(self) -> str:
        kept = "checkpointing" if self.checkpointing else "saved"
        method = f"{self.trainer} {self.method}".strip()
        return f"{self.model} {method} {self.precision} {kept} {self.batch}x{self.seq}"


def _trl(model: str, trainer: Literal["sft", "dpo"], batch: int, seq: int) -> Real:
    return Real(model=model, method="full", precision="fp32", checkpointing=True, batch=batch, seq=seq, trainer=trainer)


def _pair(model: str, batch: int, seq: int, precision: Literal["fp32", "bf16"] = "fp32") -> tuple[Real, ...]:
    full = Real(model=model, method="full", precision=precision, batch=batch, seq=seq)
    return full, Real(model=model, method="lora", precision=precision, batch=batch, seq=2 * seq)


CASES: Final = (
    *_pair("Qwen/Qwen3-0.6B", 1, 320),
    Real(model="Qwen/Qwen3-0.6B", method="full", precision="fp32", checkpointing=True, batch=1, seq=512),
    *_pair("openai-community/gpt2", 3, 512),
    *_pair("stabilityai/stablelm-3b-4e1t", 2, 192),
    *_pair("HuggingFaceTB/SmolLM-1.7B", 2, 320),
    *_pair("microsoft/phi-2", 2, 192),
    *_pair("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 4, 448),
    *_pair("google/gemma-3-1b-it", 1, 192, "bf16"),
    *_pair("HuggingFaceTB/SmolLM3-3B", 1, 128, "bf16"),
    _trl("Qwen/Qwen3-0.6B", "sft", 1, 256),
    _trl("Qwen/Qwen3-0.6B", "dpo", 1, 128),
    _trl("HuggingFaceTB/SmolLM-1.7B", "sft", 2, 128),
    _trl("HuggingFaceTB/SmolLM-1.7B", "dpo", 1, 128),
)


def above_weights(config: Mapping[str, Any], case: Real) -> int:
    """Allocated bytes at our peak, without the weights, and without states that are there before."""
    if case.trainer:
        asked = Options(train=case.trainer, batch=case.batch, seq=case.seq)
        phases = report_on(from_config("model", config), asked).estimate.phases
        peak = max(phases, key=lambda phase: phase.total)
        return sum(peak.group(group) for group in ("activations", "gradients", "temporary"))
    adapted: dict[str, Any] = {}
    if case.method == "lora":
        dtype = "float32" if case.precision == "fp32" else "bfloat16"
        adapted = {"lora_rank": RANK, "lora_targets": (TARGETS,), "lora_dtype": dtype}
    options = Options(
        train=case.method,
        batch=case.batch,
        seq=case.seq,
        gradient_checkpointing=case.checkpointing,
        precision=case.precision,
        optimizer="sgd",
        **adapted,
    )
    found = report_on(from_config("model", config), options).estimate
    assert found.training is not None
    weights = next(phase.group("weights") for phase in found.phases)
    return found.training.allocated - WORKSPACES - weights
