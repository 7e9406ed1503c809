"""The peak of a training step against `MemTracker`: full training and adapters, with and without checkpointing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hfmem import Options
from hfmem.api import report_on
from tests.measured.training import from_config
from tests.oracle.peaks import RANK, TARGETS, peak, shortened

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

LAYERS = 2
SHAPES = ((1, 2048), (2, 4096))
WORKSPACES = 2 * 8_519_680  # cuBLAS's, which a CPU does not have
MODELS = (
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Meta-Llama-3-8B",
    "mistralai/Mistral-7B-v0.1",
    "Qwen/Qwen3-8B",
    "Alibaba-NLP/gte-Qwen2-7B-instruct",
    "microsoft/phi-2",
    "bigcode/starcoder2-7b",
    "facebook/opt-6.7b",
    "allenai/OLMo-2-0325-32B",
    "togethercomputer/RedPajama-INCITE-7B-Base",
    "tiiuae/falcon-40b",
    "CohereForAI/aya-23-8B",
)


def ours(config: dict[str, Any], batch: int, seq: int, method: str, checkpointing: bool) -> int:
    """Allocated bytes at our peak."""
    options = Options(
        train="full", batch=batch, seq=seq, gradient_checkpointing=checkpointing, precision="bf16", optimizer="adamw"
    )
    if method == "lora":
        options = replace(options, train="lora", lora_rank=RANK, lora_targets=(TARGETS,), lora_dtype="bfloat16")
    facts = report_on(from_config("model", config), options).estimate.training
    assert facts is not None
    return facts.allocated - WORKSPACES


@pytest.mark.xfail(reason="the layers' activations are closed forms until they are measured", strict=False)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["saved", "checkpointing"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_peak(name: str, method: str, checkpointing: bool) -> None:
    if method == "lora":
        pytest.importorskip("peft")
    config = shortened(name, LAYERS)
    longest = config.get("max_position_embeddings") or config.get("n_positions") or SHAPES[-1][1]
    for batch, tokens in SHAPES:
        seq = min(tokens, longest)
        measured = peak(config, batch=batch, seq=seq, method=method, checkpointing=checkpointing)
        assert ours(config, batch, seq, method, checkpointing) == pytest.approx(measured, rel=0.02)
