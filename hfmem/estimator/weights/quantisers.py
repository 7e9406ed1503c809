"""Quantisation formats for a model that is stored in floating point, one row each, including scales.

A quantiser describes how one matrix is packed. Which matrices are packed depends on software and tool, and is
described by a recipe (`recipes.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["QUANTISERS", "Quantiser", "find_quantiser", "layout", "quantiser_names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiser:
    """A storage layout for the weight of a linear layer.

    Attributes:
        name: its name in `--dtype`.
        bits: bits per parameter.
        group: group size: parameters along a row that share one scale; None for one scale per output channel.
        rows: output channels that share one scale.
        nested: scales that share one float32, where they are quantised themselves; 0 where they are not.
        scale_bytes: bytes per scale.
        zero_bits: bits per zero point (0 for symmetric formats).
        tensor_bytes: bytes per tensor (a global scale).
        aliases: other names.
        source: the implementation or specification of this layout.
    """

    name: str
    bits: int
    group: int | None
    scale_bytes: int
    source: str
    zero_bits: int = 0
    tensor_bytes: int = 0
    rows: int = 1
    nested: int = 0
    aliases: tuple[str, ...] = ()

    def nbytes(self, shape: tuple[int, ...], count: int) -> int:
        """Bytes of `count` matrices of `shape` (…, outputs, inputs), scales and zero points included."""
        inputs, outputs, matrices = shape[-1], shape[-2] if len(shape) > 1 else 1, count
        for size in shape[:-2]:
            matrices *= size
        groups = matrices * -(-outputs // self.rows) * (1 if self.group is None else -(-inputs // self.group))
        zeros = -(-groups * self.zero_bits // 8)
        outer = 4 * matrices * -(-groups // (matrices * self.nested)) if self.nested and matrices else 0
        return self.codes(shape, count) + groups * self.scale_bytes + outer + zeros + count * self.tensor_bytes

    def codes(self, shape: tuple[int, ...], count: int) -> int:
        """Bytes of the values alone, without scales and zero points."""
        parameters = count
        for size in shape:
            parameters *= size
        return -(-parameters * self.bits // 8)

    def describe(self) -> str:
        """Bits per parameter and bytes per scale, in words."""
        shared = f"{self.group} parameters" if self.group else "an output channel"
        if self.rows > 1:
            shared = f"{self.rows} × {self.group} parameters"
        scale = (
            f"{self.scale_bytes} B per scale of {shared}" if self.scale_bytes else f"{self.tensor_bytes} B per matrix"
        )
        zero = f", {self.zero_bits} bits per zero point" if self.zero_bits else ""
        outer = f", 4 B per {self.nested} scales" if self.nested else ""
        return f"{self.bits} bits, {scale}{outer}{zero}"


QUANTISERS: Final[tuple[Quantiser, ...]] = (
    Quantiser(
        name="int8",
        bits=8,
        group=None,
        scale_bytes=4,
        aliases=("llm.int8", "w8a16"),
        source="bitsandbytes LLM.int8(): int8 matrix, one float32 SCB per output channel (arXiv 2208.07339)",
    ),
    Quantiser(
        name="fp8",
        bits=8,
        group=None,
        scale_bytes=4,
        aliases=("float8", "fp8_e4m3", "float8_e4m3fn"),
        source="float8_e4m3fn, one float32 scale per output channel (compressed-tensors' dynamic FP8 scheme)",
    ),
    Quantiser(
        name="int4",
        bits=4,
        group=128,
        scale_bytes=2,
        zero_bits=4,
        aliases=("gptq", "awq", "gptq-int4", "awq-int4", "w4a16", "autoround", "auto-round"),
        source="GPTQ and AWQ, group 128: int4, float16 scale and int4 zero point per group (arXiv 2210.17323)",
    ),
    Quantiser(
        name="nf4",
        bits=4,
        group=64,
        scale_bytes=4,
        aliases=("fp4", "bnb4"),
        source="bitsandbytes NF4, block 64, float32 absmax, without double quantisation (arXiv 2305.14314)",
    ),
    Quantiser(
        name="mxfp4",
        bits=4,
        group=32,
        scale_bytes=1,
        source="OCP Microscaling Formats 1.0: FP4 E2M1, one E8M0 scale per block of 32",
    ),
    Quantiser(
        name="nvfp4",
        bits=4,
        group=16,
        scale_bytes=1,
        tensor_bytes=4,
        source="NVFP4: FP4 E2M1, one FP8 E4M3 scale per block of 16, one float32 scale per tensor (ModelOpt)",
    ),
)

_BY_NAME: Final = {name: row for row in QUANTISERS for name in (row.name, *row.aliases)}

_LAYOUTS: Final[dict[str, Quantiser]] = {
    "fp8 blocks": Quantiser(
        name="fp8",
        bits=8,
        group=128,
        rows=128,
        scale_bytes=4,
        source="float8_e4m3fn, one float32 scale per block of 128 × 128 (arXiv 2412.19437)",
    ),
    "fp8 tensors": Quantiser(
        name="fp8",
        bits=8,
        group=None,
        scale_bytes=0,
        tensor_bytes=4,
        source="float8_e4m3fn, one float32 scale per matrix",
    ),
    "nf4 nested": Quantiser(
        name="nf4",
        bits=4,
        group=64,
        scale_bytes=1,
        nested=256,
        source="bitsandbytes NF4 with compress_statistics: absmax in 8 bits, one float32 per 256 of them",
    ),
    "int4 torchao": Quantiser(
        name="int4",
        bits=4,
        group=128,
        scale_bytes=4,
        source="torchao Int4WeightOnlyConfig: groups of 128, scale and zero point in bfloat16",
    ),
    "int4 symmetric": Quantiser(
        name="int4",
        bits=4,
        group=128,
        scale_bytes=2,
        source="compressed-tensors W4A16: int4 in groups of 128, one 2-byte scale per group",
    ),
    "nvfp4 twice": Quantiser(
        name="nvfp4",
        bits=4,
        group=16,
        scale_bytes=2,
        tensor_bytes=4,
        source="transformers 5.24, integrations/nvfp4.py: the scales of blocks of 16 are held in two layouts",
    ),
}
"""Layouts that recipes use, which are not values of `--dtype` themselves."""


def layout(name: str) -> Quantiser:
    """The layout with the name that a recipe uses."""
    return _LAYOUTS.get(name) or _BY_NAME[name]


def quantiser_names() -> tuple[str, ...]:
    """What `--dtype` calls quantisations, without other spellings: the formats, then tools (names without digits)."""
    tools = (alias for row in QUANTISERS for alias in row.aliases if alias.isalpha())
    return (*(row.name for row in QUANTISERS), *tools)


def find_quantiser(name: str) -> Quantiser | None:
    """The row with a name or alias; None for plain dtypes and unknown words."""
    return _BY_NAME.get(name.lower())
