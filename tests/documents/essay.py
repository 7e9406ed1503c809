"""The tables of docs/formulas.md: the founding article's formulas (`method="textbook"`) beside the exact method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import hfmem
from hfmem import Report
from hfmem.units import GIB

__all__ = ["PIECES"]

_CACHES: Final = (
    ("meta-llama/Llama-2-7b-hf", 4096, "every head keeps its keys and values"),
    ("meta-llama/Meta-Llama-3-8B", 8192, "4 query heads share a key and a value head"),
    ("WizardLMTeam/WizardCoder-15B-V1.0", 8192, "all 48 query heads share one"),
    ("mistralai/Mistral-7B-v0.1", 32768, "no layer looks back further than 4,096 tokens"),
    ("google/gemma-3-27b-it", 131072, "5 of 6 layers look back 1,024 tokens"),
    ("openai/gpt-oss-120b", 131072, "every other layer looks back 128 tokens"),
    ("deepseek-ai/DeepSeek-V3", 131072, "a latent of 512 + 64 numbers stands for all heads"),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", 262144, "3 of 4 layers keep a state of fixed size"),
)
_TRAINED: Final = "mistralai/Mistral-7B-v0.1"
_MEASURED: Final = 67.460
"""GiB: github.com/foundation-model-stack/fms-acceleration, scripts/benchmarks/refs/a100_80gb.csv (commit 876e2ed)"""


@cache
def _report(model: str, **asked: Any) -> Report:
    return hfmem.estimate(model, offline=True, **asked)


def _pair(model: str, **asked: Any) -> tuple[Report, Report]:
    """By the article, and by counting."""
    return _report(model, method="textbook", **asked), _report(model, **asked)


def _gib(nbytes: int | None, digits: int = 2) -> str:
    return "?" if nbytes is None else f"{nbytes / GIB:,.{digits}f}"


def _times(told: int, counted: int) -> str:
    factor = told / counted
    return "the same" if abs(factor - 1) < 0.005 else f"{factor:,.0f} ×" if factor >= 10 else f"{factor:.1f} ×"


def _rows(head: str, lines: Iterator[str]) -> str:
    return "\n".join([head, "|".join(["", *["---"] * (head.count("|") - 1), ""]), *lines])


def caches() -> str:
    """The cache of each model at a length."""

    def lines() -> Iterator[str]:
        for model, seq, why in _CACHES:
            article, counted = (each.estimate.group("kv_cache") for each in _pair(model, seq=seq, dtype="bfloat16"))
            yield f"| `{model}` | {seq:,} | {_gib(article)} | {_gib(counted)} | {_times(article, counted)} | {why} |"

    return _rows("| model | tokens | article | counted | article is | because |", lines())


def weights() -> str:
    """Weights in 16 bits, and in four."""

    def lines() -> Iterator[str]:
        for model, why in _QUANTISED:
            full, told = (_report(model, method="textbook", dtype=name) for name in ("bfloat16", "int4"))
            counted = _report(model, dtype="nf4").estimate.group("weights")
            article = told.estimate.group("weights")
            same = _report(model, dtype="bfloat16").estimate.group("weights") == full.estimate.group("weights")
            assert same  # which the text says
            yield (
                f"| `{model}` | {_gib(full.estimate.group('weights'))} | {_gib(article)} | {_gib(counted)} "
                f"| {_times(counted, article)} | {why} |"
            )

    return _rows("| model | 16 bits, both | 4 bits, article | NF4, counted | really | because |", lines())


_QUANTISED: Final = (
    ("meta-llama/Llama-2-7b-hf", "the embedding and the head stay in 16 bits; 64 weights share a scale"),
    ("meta-llama/Llama-3.1-8B-Instruct", "the vocabulary is four times as large"),
    ("google/gemma-3-27b-it", "262,208 words, and a vision tower"),
    ("Qwen/Qwen3-30B-A3B", "bitsandbytes replaces `nn.Linear`; fused experts are none"),
)


def activations() -> str:
    """The peak of a prefill: the article's coefficients, and what was measured on the class."""

    def lines() -> Iterator[str]:
        for seq in (1024, 8192, 32768):
            for attention in ("sdpa", "eager"):
                told, counted = (
                    each.estimate.group("activations") for each in _pair(_READ, seq=seq, attention=attention)
                )
                yield f"| {seq:,} | {attention} | {_gib(told)} | {_gib(counted)} |"

    return _rows("| tokens | attention | article | measured |", lines())


_READ: Final = "meta-llama/Llama-3.1-8B-Instruct"


def step() -> str:
    """One training step that was run on an A100, part by part."""
    asked: dict[str, Any] = {"train": "full", "batch": 4, "seq": 4096}
    article = _report(_TRAINED, method="textbook", optimizer="adam", **asked).estimate
    counted = _report(_TRAINED, gradient_checkpointing=True, **asked).estimate

    def lines() -> Iterator[str]:
        for group, why in _PARTS.items():
            yield f"| {group.replace('_', ' ')} | {_gib(article.group(group))} | {_gib(counted.group(group))} | {why} |"
        yield f"| **total** | **{_gib(article.total)}** | **{_gib(counted.total)}** | |"

    allocated = counted.total - counted.group("overhead") + _WORKSPACES
    assert abs(allocated / GIB - _MEASURED) < 0.02  # what the text says was printed
    return _rows("| part | article | counted | because |", lines())


_WORKSPACES: Final = 2 * 8_519_680  # of cuBLAS, which PyTorch's counters hold; the context they do not
_PARTS: Final[Mapping[Any, str]] = {
    "weights": "2 bytes a parameter",
    "gradients": "in the dtype of the weights, not in float32",
    "optimizer": "two moments in that dtype too: 4 bytes, not 8",
    "kv_cache": "`use_cache` is off in training",
    "activations": "freed before the optimizer's step, which is the peak here",
    "temporary": "AdamW's `foreach` holds one more copy of the parameters",
    "overhead": "the device context, cuBLAS",
}


def rule() -> str:
    """How many times the weights a training step takes."""

    def lines() -> Iterator[str]:
        run = _report(_TRAINED, method="textbook").estimate.group("weights")
        for words, asked in _METHODS.items():
            total = _report(_TRAINED, **asked).estimate.total
            yield f"| {words} | {_gib(total)} | {total / run:.1f} × |"

    return _rows("| training of Mistral 7B, per GPU | memory | times the weights |", lines())


_SHORT: Final[dict[str, Any]] = {"batch": 1, "seq": 2048}
_METHODS: Final[Mapping[str, dict[str, Any]]] = {
    "full, bf16, checkpointing, 4 × 4,096 tokens": {
        "train": "full",
        "batch": 4,
        "seq": 4096,
        "gradient_checkpointing": True,
    },
    "full, bf16, no checkpointing, 4 × 4,096 tokens": {"train": "full", "batch": 4, "seq": 4096},
    "full, float32 weights with autocast, 1 × 2,048": {"train": "full", "precision": "autocast-bf16", **_SHORT},
    "full, ZeRO-3 on 8 GPUs, checkpointing, 1 × 2,048": {
        "train": "full",
        "zero": 3,
        "gpus": 8,
        "gradient_checkpointing": True,
        **_SHORT,
    },
    "LoRA, checkpointing, 1 × 2,048": {"train": "lora", "gradient_checkpointing": True, **_SHORT},
    "QLoRA, checkpointing, 1 × 2,048": {"train": "qlora", "gradient_checkpointing": True, **_SHORT},
}


PIECES: Final[Mapping[str, Callable[[], str]]] = {
    "tests.documents caches": caches,
    "tests.documents weights": weights,
    "tests.documents activations": activations,
    "tests.documents step": step,
    "tests.documents rule": rule,
}
