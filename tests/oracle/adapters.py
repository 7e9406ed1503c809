"""Trainable parameters of real adapters: PEFT on the real classes, on the meta device."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Final

import torch
import transformers

from hfmem import inspect
from hfmem.probe.tiny import build

__all__ = ["CHOICES", "MODELS", "RANK", "measure", "measure_all", "on_meta", "versions"]

RANK: Final = 8
_ATTENTION: Final = "q_proj,k_proj,v_proj,o_proj,out_proj,query_key_value,c_attn,Wqkv,qkv_proj,dense,query,key,value"
_MLP: Final = "gate_proj,up_proj,down_proj,fc1,fc2,c_fc,c_proj,gate_up_proj,dense_h_to_4h,dense_4h_to_h,wi,wo"
CHOICES: Final[dict[str, list[str] | str | None]] = {
    "q_proj,v_proj": ["q_proj", "v_proj"],
    _ATTENTION: _ATTENTION.split(","),
    _MLP: _MLP.split(","),
    "all-linear": "all-linear",
    "default": None,
}

MODELS: Final = (
    "01-ai/Yi-1.5-34B",
    "Alibaba-NLP/gte-Qwen2-7B-instruct",
    "CohereForAI/aya-23-8B",
    "EleutherAI/gpt-j-6b",
    "FacebookAI/roberta-base",
    "HuggingFaceTB/SmolLM3-3B",
    "LiquidAI/LFM2-1.2B",
    "Qwen/Qwen1.5-MoE-A2.7B",
    "Qwen/Qwen2-VL-2B-Instruct",
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-235B-A22B",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "Qwen/Qwen3.5-0.8B",
    "WizardLMTeam/WizardCoder-15B-V1.0",
    "ai21labs/AI21-Jamba-1.5-Mini",
    "allenai/OLMo-2-0325-32B",
    "alpindale/WizardLM-2-8x22B",
    "bigcode/starcoder2-7b",
    "bigscience/bloom",
    "deepseek-ai/DeepSeek-V2",
    "facebook/bart-base",
    "facebook/opt-6.7b",
    "google-t5/t5-base",
    "google/gemma-2-27b-it",
    "google/gemma-3-27b-it",
    "ibm-granite/granite-3.1-1b-a400m-instruct",
    "ibm-granite/granite-4.0-h-small",
    "intfloat/e5-mistral-7b-instruct",
    "microsoft/Phi-3.5-mini-instruct",
    "microsoft/phi-2",
    "mosaicml/mpt-7b",
    "openai-community/gpt2",
    "openai/whisper-large-v3",
    "stabilityai/stablelm-2-zephyr-1_6b",
    "tiiuae/falcon-40b",
    "togethercomputer/RedPajama-INCITE-7B-Base",
    "zai-org/GLM-4.5",
)
"""One a type, of the catalog: decoders dense and sparse, hybrids, encoders, encoder-decoders, multimodal models."""


def versions() -> dict[str, str]:
    """Of the packages that count."""
    return {name: version(name) for name in ("torch", "transformers", "peft")}


def measure_all() -> Iterator[tuple[str, dict[str, int | None]]]:
    """Every model with every choice; None where PEFT has no default, or finds no such module."""
    for name in MODELS:
        base = on_meta(name)
        yield name, {choice: measure(base, targets) for choice, targets in CHOICES.items()}


def measure(base: torch.nn.Module, targets: list[str] | str | None) -> int | None:
    """`get_nb_trainable_parameters` of adapters on a copy of the model."""
    from peft import LoraConfig, get_peft_model

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            config = LoraConfig(r=RANK, target_modules=targets)
            adapted = get_peft_model(copy.deepcopy(base), config, low_cpu_mem_usage=True)
        except ValueError:
            return None
    return int(adapted.get_nb_trainable_parameters()[0])


def on_meta(name: str) -> torch.nn.Module:
    config: Any = inspect(name, offline=True).checkpoint.config
    with torch.device("meta"):
        model: torch.nn.Module = getattr(transformers, config["architectures"][0])(build(config))
    return model
