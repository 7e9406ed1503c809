"""Values of options that the rest of the package uses too."""

from __future__ import annotations

from typing import Literal

__all__ = ["Attention", "Head", "Method", "Mode", "Offload", "Train"]

Mode = Literal["inference", "training"]
Method = Literal["exact", "textbook"]
Attention = Literal["sdpa", "flash", "eager"]
Train = Literal["full", "lora", "qlora"]
Head = Literal["lm", "classification", "embedding", "none"]
Offload = Literal["none", "optimizer", "parameters"]
