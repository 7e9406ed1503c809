"""Values of options that the rest of the package uses too."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["PANELS", "PICTURES", "Attention", "Method", "Mode", "Offload", "Train"]

Mode = Literal["inference", "training"]
Method = Literal["exact", "textbook"]
Attention = Literal["sdpa", "flash", "eager"]
Train = Literal["full", "lora", "qlora"]
Offload = Literal["none", "optimizer", "parameters"]

PANELS: Final = ("parts", "context", "batch", "phases")
"""What a picture may have: the parts of each model, memory over context and over batch, phases of a training step."""

PICTURES: Final = ("png", "svg", "html")
"""The kinds of pictures, by the suffix of the file without its dot."""
