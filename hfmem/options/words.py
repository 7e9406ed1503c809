"""Values of options that the rest of the package uses too."""

from __future__ import annotations

from typing import Any, Final, Literal, cast

__all__ = [
    "OBJECTIVES",
    "PANELS",
    "PICTURES",
    "Attention",
    "Head",
    "Method",
    "Mode",
    "Offload",
    "PackingStrategy",
    "Train",
    "TrainMethod",
    "VllmMode",
    "trained_as",
]

Mode = Literal["inference", "training"]
Method = Literal["exact", "textbook"]
Attention = Literal["sdpa", "flash", "eager"]
TrainMethod = Literal["full", "lora", "qlora"]
Train = Literal["full", "lora", "qlora", "sft", "dpo", "kto", "grpo", "rloo", "reward"]
OBJECTIVES: Final = ("sft", "dpo", "kto", "grpo", "rloo", "reward")
"""The values of `--train` that name a trainer of TRL; what they train is in `--train-method`."""
Head = Literal["lm", "classification", "embedding", "none"]
VllmMode = Literal["colocate", "server"]
PackingStrategy = Literal["bfd", "bfd_split", "wrapped"]
Offload = Literal["none", "optimizer", "parameters", "model", "group", "sequential"]

PANELS: Final = ("parts", "context", "batch", "phases")
"""What a picture may have: the parts of each model, memory over context and over batch, phases of a training step."""

PICTURES: Final = ("png", "svg", "html")
"""The kinds of pictures, by the suffix of the file without its dot."""


def trained_as(asked: Any) -> TrainMethod | None:
    """What is trained: all weights, or adapters; None without training. `asked` has the options as attributes."""
    if asked.train in OBJECTIVES:
        return asked.train_method or "full"
    return cast("TrainMethod | None", asked.train)
