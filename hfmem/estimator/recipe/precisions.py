"""Precisions: the dtypes of weights, gradients and optimizer states in training, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["PRECISIONS", "TRAINER", "Precision", "find_precision"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """A combination of dtypes in training. Sizes are bytes per element.

    Attributes:
        name: its name in `--precision`.
        weights: dtype of the model's weights.
        compute: dtype of activations.
        gradient: bytes per element of gradients.
        master: bytes per element of master weights, which the optimizer updates; 0 for none.
        state: dtype of the weights that the optimizer updates, from which its states take theirs.
        autocast: whether weights are cast for each use, and the casts are kept until the end of the step.
        fp8: whether linear layers multiply in FP8, and keep saved inputs and weight copies in FP8.
        aliases: other names.
        source: where this is defined.
    """

    name: str
    weights: str
    compute: str
    gradient: int
    master: int = 0
    state: str
    autocast: bool = False
    fp8: bool = False
    aliases: tuple[str, ...] = ()
    source: str


_TORCH = "docs.pytorch.org: a gradient has its parameter's dtype, Adam's moments too"
_AMP = "docs.pytorch.org/docs/stable/amp.html: weights stay float32, autocast keeps one low-precision copy per step"

PRECISIONS: Final[tuple[Precision, ...]] = (
    Precision(
        name="bf16",
        weights="bfloat16",
        compute="bfloat16",
        gradient=2,
        state="bfloat16",
        aliases=("bfloat16", "pure-bf16"),
        source=_TORCH,
    ),
    Precision(
        name="fp16",
        weights="float16",
        compute="float16",
        gradient=2,
        state="float16",
        aliases=("float16", "half", "pure-fp16"),
        source=_TORCH,
    ),
    Precision(
        name="fp32",
        weights="float32",
        compute="float32",
        gradient=4,
        state="float32",
        aliases=("float32", "no", "tf32"),
        source=_TORCH,
    ),
    Precision(
        name="autocast-bf16",
        weights="float32",
        compute="bfloat16",
        gradient=4,
        state="float32",
        autocast=True,
        aliases=("amp-bf16", "amp", "mixed-bf16"),
        source=_AMP,
    ),
    Precision(
        name="autocast-fp16",
        weights="float32",
        compute="float16",
        gradient=4,
        state="float32",
        autocast=True,
        aliases=("amp-fp16", "mixed-fp16"),
        source=_AMP,
    ),
    Precision(
        name="bf16-autocast",
        weights="bfloat16",
        compute="bfloat16",
        gradient=2,
        state="bfloat16",
        autocast=True,
        aliases=("autocast-on-bf16",),
        source="autocast on weights that are bfloat16 already (Trainer's bf16=True on a bf16 model): nothing is cast",
    ),
    Precision(
        name="bf16-master",
        weights="bfloat16",
        compute="bfloat16",
        gradient=2,
        master=4,
        state="float32",
        aliases=("deepspeed-bf16", "deepspeed", "zero"),
        source="ZeRO, arXiv 1910.02054, 3.1: 2 B weights, 2 B gradients, 12 B float32 weights and moments",
    ),
    Precision(
        name="fp16-master",
        weights="float16",
        compute="float16",
        gradient=2,
        master=4,
        state="float32",
        aliases=("deepspeed-fp16",),
        source="ZeRO, arXiv 1910.02054, 3.1: 2 B weights, 2 B gradients, 12 B float32 weights and moments",
    ),
    Precision(
        name="megatron-bf16",
        weights="bfloat16",
        compute="bfloat16",
        gradient=4,
        master=4,
        state="float32",
        aliases=("megatron",),
        source="Megatron Core docs, dist_optimizer.md: bf16 weights with float32 main gradients, 18 B per parameter",
    ),
    Precision(
        name="fp8",
        weights="bfloat16",
        compute="bfloat16",
        gradient=4,
        master=4,
        state="float32",
        fp8=True,
        aliases=("megatron-fp8", "float8"),
        source="Transformer Engine, FP8 primer: weights stay bf16, linear layers keep FP8 copies of them and save "
        "their inputs in FP8; main gradients and moments as in megatron-bf16",
    ),
)

TRAINER: Final = {
    "trainer-bf16": ("bf16-autocast", "autocast-bf16"),
    "trainer-fp16": ("fp16", "autocast-fp16"),
    "trainer-no": ("bf16", "fp32"),
}
"""What transformers' `bf16=True` and `fp16=True` stand for: autocast on the weights in their loaded dtype, which is
16-bit (first name) or float32 (second); and what accelerate's `mixed_precision: no` does."""

_BY_NAME: Final = {name: row for row in PRECISIONS for name in (row.name, *row.aliases)}


def find_precision(name: str) -> Precision | None:
    """The row with a name or alias; None for an unknown name."""
    return _BY_NAME.get(name.lower())
