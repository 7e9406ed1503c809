"""What is measured of a training step's peak, and what we say of it. Needs no PyTorch."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from hfmem import Options, inspect
from hfmem.api import report_on
from tests.measured.training import from_config

__all__ = ["CASES", "MODELS", "RANK", "TARGETS", "ours", "shapes", "shortened"]

LAYERS = 2
RANK = 16
TARGETS = "all-linear"
WORKSPACES = 2 * 8_519_680  # cuBLAS's, which a CPU does not have
CASES = tuple((method, checkpointing) for method in ("full", "lora") for checkpointing in (False, True))
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
    "google/gemma-3-1b-it",
    "mistralai/Mixtral-8x7B-v0.1",
    "openai-community/gpt2",
    "Qwen/Qwen3-30B-A3B",
)


def shortened(name: str, layers: int = LAYERS) -> dict[str, Any]:
    """A model's configuration with so many layers: lists of one entry a layer are cut with them."""
    config = copy.deepcopy(dict(inspect(name, offline=True).checkpoint.config or {}))
    for part in (config, *(config[key] for key in ("text_config",) if isinstance(config.get(key), dict))):
        depth = next((part[key] for key in ("num_hidden_layers", "n_layer", "num_layers") if key in part), None)
        for key, value in list(part.items()):
            if isinstance(value, list) and len(value) == depth:
                part[key] = value[:layers]
            elif key in ("num_hidden_layers", "n_layer", "num_layers"):
                part[key] = layers
    return config


def shapes(config: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    """Sequences and their tokens: no more than the model has positions for."""
    longest = config.get("max_position_embeddings") or config.get("n_positions") or 4096
    return tuple((batch, min(tokens, longest)) for batch, tokens in ((1, 2048), (2, 4096)))


def ours(config: dict[str, Any], batch: int, seq: int, method: str, *, checkpointing: bool) -> int:
    """Allocated bytes at our peak."""
    options = Options(
        train="full", batch=batch, seq=seq, gradient_checkpointing=checkpointing, precision="bf16", optimizer="adamw"
    )
    if method == "lora":
        options = replace(options, train="lora", lora_rank=RANK, lora_targets=(TARGETS,), lora_dtype="bfloat16")
    facts = report_on(from_config("model", config), options).estimate.training
    assert facts is not None
    return facts.allocated - WORKSPACES
