"""The training steps whose peaks are recorded, and what we say of them. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Literal

from hfmem import Options
from hfmem.api import inspect, report_on
from tests.measured.training import from_config
from tests.oracle.peak_cases import RANK, TARGETS, WORKSPACES, shortened

__all__ = ["MODELS", "OPTIMIZERS", "Case", "cases", "config_of", "ours"]

OPTIMIZERS: Final = ("adamw", "sgd")
MODELS: Final = (
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Meta-Llama-3-8B",
    "HuggingFaceTB/SmolLM-1.7B",
    "mistralai/Mistral-7B-v0.1",
    "Alibaba-NLP/gte-Qwen2-7B-instruct",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-0.6B",
    "google/gemma-2b-it",
    "google/gemma-2-2b",
    "google/gemma-3-1b-it",
    "microsoft/phi-2",
    "microsoft/Phi-3.5-mini-instruct",
    "microsoft/Phi-4-mini-instruct",
    "bigcode/starcoder2-7b",
    "bigcode/gpt_bigcode-santacoder",
    "facebook/opt-6.7b",
    "allenai/OLMo-2-1124-7B",
    "togethercomputer/RedPajama-INCITE-7B-Base",
    "tiiuae/falcon-40b",
    "CohereForAI/aya-23-8B",
    "EleutherAI/gpt-j-6b",
    "bigscience/bloom",
    "mosaicml/mpt-7b",
    "stabilityai/stablelm-3b-4e1t",
    "HuggingFaceTB/SmolLM3-3B",
    "LGAI-EXAONE/EXAONE-4.0-32B",
    "openai-community/gpt2",
    "openai-community/openai-gpt",
    "mistralai/Mixtral-8x7B-v0.1",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen1.5-MoE-A2.7B",
    "ibm-granite/granite-3.1-1b-a400m-instruct",
    "zai-org/GLM-4.5-Air",
    "openai/gpt-oss-20b",
    "deepseek-ai/DeepSeek-V2-Lite",
    "deepseek-ai/DeepSeek-V3",
    "LiquidAI/LFM2-1.2B",
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "tiiuae/falcon-mamba-7b",
    "google-bert/bert-base-uncased",
    "FacebookAI/roberta-base",
    "zai-org/GLM-5",
)
_DEEPEST: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One step, whatever its optimizer."""

    method: Literal["full", "lora", "dora"]
    attention: Literal["sdpa", "eager"]
    checkpointing: bool
    batch: int
    seq: int

    def __str__(self) -> str:
        kept = "checkpointing" if self.checkpointing else "saved"
        return f"{self.method} {self.attention} {kept} {self.batch}x{self.seq}"


def config_of(name: str) -> dict[str, Any]:
    """A model's configuration with its first layers, two or as many as show each of its kinds once."""
    layers = inspect(name, offline=True).architecture.layers or ()
    kinds = set(layers[:_DEEPEST])
    depth = next(count for count in range(1, len(layers) + 1) if set(layers[:count]) >= kinds)
    config = shortened(name, max(2, depth))
    if "n_layers" in config:
        config["n_layers"] = max(2, depth)
    pattern = config.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        config["hybrid_override_pattern"] = pattern[: max(2, depth)]
    return {key: value for key, value in config.items() if key not in ("auto_map", "quantization_config")}


def cases(config: Mapping[str, Any]) -> Iterator[Case]:
    """Every case of a model: no longer than it has positions for."""
    longest = config.get("max_position_embeddings") or config.get("n_positions") or 4096
    longest -= 2 if config["model_type"] == "roberta" else 0  # whose first position is 2
    shapes = ((1, min(512, longest)), (2, min(2048, longest)))
    methods: tuple[Literal["full", "lora", "dora"], ...] = ("full", "lora", "dora")
    attentions: tuple[Literal["sdpa", "eager"], ...] = ("sdpa", "eager")
    for (batch, seq), method, attention, kept in product(shapes, methods, attentions, (False, True)):
        yield Case(method=method, attention=attention, checkpointing=kept, batch=batch, seq=seq)


def ours(config: Mapping[str, Any], case: Case, optimizer: str) -> int:
    """Allocated bytes at our peak."""
    adapted: dict[str, Any] = {}
    if case.method != "full":
        adapted = {"lora_rank": RANK, "lora_targets": (TARGETS,), "lora_dtype": "bfloat16"}
        adapted["dora"] = case.method == "dora"
    options = Options(
        train="full" if case.method == "full" else "lora",
        batch=case.batch,
        seq=case.seq,
        gradient_checkpointing=case.checkpointing,
        attention=case.attention,
        precision="bf16",
        optimizer=optimizer,
        **adapted,
    )
    facts = report_on(from_config("model", config), options).estimate.training
    assert facts is not None
    return facts.allocated - WORKSPACES
