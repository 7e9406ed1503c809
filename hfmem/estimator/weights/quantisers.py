"""Quantisations to try on a model that is stored in floating point: one row each, with what it adds for scales.

A quantiser replaces the linear layers of the blocks and experts; embeddings, norms, routers and the head stay in the
compute dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["QUANTISERS", "Quantiser", "find_quantiser"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiser:
    """A way to store the matrix of a linear layer.

    Attributes:
        name: what `--dtype` calls it.
        bits: bits a parameter.
        group: parameters along a row that share one scale; None for one scale an output channel.
        scale_bytes: bytes of one scale.
        zero_bits: bits of one zero point (0 for symmetric formats).
        tensor_bytes: bytes kept once a tensor (a global scale).
        leaves_experts: whether the quantiser of today replaces linear modules only, which the fused experts of
            transformers 5 are not.
        aliases: other names.
        source: whose layout this is.
    """

    name: str
    bits: int
    group: int | None
    scale_bytes: int
    zero_bits: int = 0
    tensor_bytes: int = 0
    leaves_experts: bool = False
    aliases: tuple[str, ...] = ()
    source: str

    def nbytes(self, shape: tuple[int, ...], count: int) -> int:
        """Bytes of `count` matrices of `shape` (…, outputs, inputs), scales and zero points included."""
        inputs, rows = shape[-1], count
        for size in shape[:-1]:
            rows *= size
        groups = rows * (1 if self.group is None else -(-inputs // self.group))
        packed = -(-rows * inputs * self.bits // 8)
        zeros = -(-groups * self.zero_bits // 8)
        return packed + groups * self.scale_bytes + zeros + count * self.tensor_bytes

    def describe(self) -> str:
        """The cost of a parameter, in words."""
        scale = f"{self.scale_bytes} B a scale of " + (
            f"{self.group} parameters" if self.group else "an output channel"
        )
        zero = f", {self.zero_bits} bits a zero point" if self.zero_bits else ""
        return f"{self.bits} bits, {scale}{zero}"


QUANTISERS: Final[tuple[Quantiser, ...]] = (
    Quantiser(
        name="int8",
        bits=8,
        group=None,
        scale_bytes=4,
        leaves_experts=True,
        aliases=("llm.int8", "w8a16"),
        source="bitsandbytes LLM.int8(): int8 matrix, one float32 SCB an output channel (arXiv 2208.07339)",
    ),
    Quantiser(
        name="fp8",
        bits=8,
        group=None,
        scale_bytes=4,
        aliases=("float8", "fp8_e4m3", "float8_e4m3fn"),
        source="float8_e4m3fn, one float32 scale an output channel (compressed-tensors' dynamic FP8 scheme)",
    ),
    Quantiser(
        name="int4",
        bits=4,
        group=128,
        scale_bytes=2,
        zero_bits=4,
        aliases=("gptq", "awq", "gptq-int4", "awq-int4", "w4a16"),
        source="GPTQ and AWQ, group 128: int4, float16 scale and int4 zero point a group (arXiv 2210.17323)",
    ),
    Quantiser(
        name="nf4",
        bits=4,
        group=64,
        scale_bytes=4,
        leaves_experts=True,
        aliases=("fp4", "bnb4"),
        source="bitsandbytes NF4, block 64, float32 absmax, without double quantisation (arXiv 2305.14314)",
    ),
    Quantiser(
        name="mxfp4",
        bits=4,
        group=32,
        scale_bytes=1,
        source="OCP Microscaling Formats 1.0: FP4 E2M1, one E8M0 scale a block of 32",
    ),
    Quantiser(
        name="nvfp4",
        bits=4,
        group=16,
        scale_bytes=1,
        tensor_bytes=4,
        source="NVFP4: FP4 E2M1, one FP8 E4M3 scale a block of 16, one float32 scale a tensor (ModelOpt)",
    ),
)

_BY_NAME: Final = {name: row for row in QUANTISERS for name in (row.name, *row.aliases)}


def find_quantiser(name: str) -> Quantiser | None:
    """The row of a name; None for plain dtypes and unknown words."""
    return _BY_NAME.get(name.lower())
