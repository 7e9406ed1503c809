"""The words that options take, where the rest of the package asks for them too."""

from __future__ import annotations

from typing import Literal

__all__ = ["Attention", "Method", "Mode", "Offload", "Train"]

Mode = Literal["inference", "training"]
Method = Literal["exact", "textbook"]
Attention = Literal["sdpa", "flash", "eager"]
Train = Literal["full", "lora", "qlora"]
Offload = Literal["none", "optimizer", "parameters"]
