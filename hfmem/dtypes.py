"""Number formats, one row each, with their names in files, PyTorch, configs and options.

Plain formats have a number of bits per element. Block formats have a number of bytes per block of elements that share
scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = ["BLOCK_DTYPES", "DTYPES", "KV_DTYPES", "RUN_DTYPES", "Dtype", "canonical", "find_dtype", "stored_dtype"]

Kind = Literal["float", "integer", "bool", "complex", "block"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtype:
    """A number format.

    Attributes:
        name: its name in reports: PyTorch's if there is one, otherwise that in files.
        block_bits: bits per block.
        kind: float, integer, bool or complex; block for elements packed with shared scales.
        block: elements per block; 1 for plain formats.
        safetensors: its name in safetensors headers; None without one.
        aliases: other spellings, lower case.
    """

    name: str
    block_bits: int
    kind: Kind
    block: int = 1
    safetensors: str | None = None
    aliases: tuple[str, ...] = ()

    def nbytes(self, elements: int) -> int:
        """Bytes of this many elements, rounded up to whole blocks and bytes."""
        blocks = -(-elements // self.block)
        return -(-blocks * self.block_bits // 8)

    @property
    def bytes_each(self) -> Fraction:
        """Average bytes per element; a fraction if several elements share a byte or a block."""
        from fractions import Fraction  # where bytes are computed; loading it takes 2 ms

        return Fraction(self.block_bits, 8 * self.block)

    @property
    def mean_bytes(self) -> float:
        """`bytes_each` as it is shown."""
        return self.block_bits / (8 * self.block)

    @property
    def is_wide_float(self) -> bool:
        """Whether it is a floating-point format of at least 16 bits. Such weights are cast on load; narrower ones are
        quantised, and stay as stored."""
        return self.kind == "float" and self.block_bits >= 16 * self.block


# Safetensors names and sizes: https://docs.rs/safetensors/latest/safetensors/tensor/enum.Dtype.html (0.8);
# PyTorch names: https://docs.pytorch.org/docs/stable/tensor_attributes.html
DTYPES: Final[tuple[Dtype, ...]] = (
    Dtype(name="float64", block_bits=64, kind="float", safetensors="F64", aliases=("fp64", "double")),
    Dtype(name="float32", block_bits=32, kind="float", safetensors="F32", aliases=("fp32", "float")),
    Dtype(name="bfloat16", block_bits=16, kind="float", safetensors="BF16", aliases=("bf16",)),
    Dtype(name="float16", block_bits=16, kind="float", safetensors="F16", aliases=("fp16", "half")),
    Dtype(
        name="float8_e4m3fn", block_bits=8, kind="float", safetensors="F8_E4M3", aliases=("fp8", "fp8_e4m3", "float8")
    ),
    Dtype(name="float8_e5m2", block_bits=8, kind="float", safetensors="F8_E5M2", aliases=("fp8_e5m2",)),
    Dtype(name="float8_e4m3fnuz", block_bits=8, kind="float", safetensors="F8_E4M3FNUZ"),
    Dtype(name="float8_e5m2fnuz", block_bits=8, kind="float", safetensors="F8_E5M2FNUZ"),
    Dtype(name="float8_e8m0fnu", block_bits=8, kind="float", safetensors="F8_E8M0"),
    Dtype(name="float6_e2m3", block_bits=6, kind="float", safetensors="F6_E2M3"),
    Dtype(name="float6_e3m2", block_bits=6, kind="float", safetensors="F6_E3M2"),
    Dtype(name="float4_e2m1fn", block_bits=4, kind="float", safetensors="F4", aliases=("fp4",)),
    Dtype(name="complex64", block_bits=64, kind="complex", safetensors="C64"),
    Dtype(name="complex128", block_bits=128, kind="complex"),
    Dtype(name="int64", block_bits=64, kind="integer", safetensors="I64", aliases=("long",)),
    Dtype(name="uint64", block_bits=64, kind="integer", safetensors="U64"),
    Dtype(name="int32", block_bits=32, kind="integer", safetensors="I32"),
    Dtype(name="uint32", block_bits=32, kind="integer", safetensors="U32"),
    Dtype(name="int16", block_bits=16, kind="integer", safetensors="I16"),
    Dtype(name="uint16", block_bits=16, kind="integer", safetensors="U16"),
    Dtype(name="int8", block_bits=8, kind="integer", safetensors="I8"),
    Dtype(name="uint8", block_bits=8, kind="integer", safetensors="U8"),
    Dtype(name="int4", block_bits=4, kind="integer", safetensors="I4"),
    Dtype(name="uint4", block_bits=4, kind="integer"),
    Dtype(name="int2", block_bits=2, kind="integer"),
    Dtype(name="uint2", block_bits=2, kind="integer"),
    Dtype(name="bool", block_bits=8, kind="bool", safetensors="BOOL"),
)


def _block(name: str, block: int, nbytes: int) -> Dtype:
    """A block format of ggml: elements per block, and bytes as the sum of the fields of its struct."""
    return Dtype(name=name, block=block, block_bits=8 * nbytes, kind="block")


_QK: Final = 256
"""Elements per super-block (`QK_K`)."""

# Structs of ggml: https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h (0.5.0); sums in the order
# of fields; scales are halves (2 bytes) where not said. Q8_1 and Q8_K are formats of computation, not of files.
BLOCK_DTYPES: Final[tuple[Dtype, ...]] = (
    _block("Q1_0", 128, 2 + 128 // 8),
    _block("Q2_0", 64, 2 + 64 // 4),
    _block("Q4_0", 32, 2 + 32 // 2),
    _block("Q4_1", 32, 2 + 2 + 32 // 2),
    _block("Q5_0", 32, 2 + 4 + 32 // 2),
    _block("Q5_1", 32, 2 + 2 + 4 + 32 // 2),
    _block("Q8_0", 32, 2 + 32),
    _block("Q8_1", 32, 2 + 2 + 32),
    _block("Q2_K", _QK, _QK // 16 + _QK // 4 + 2 + 2),
    _block("Q3_K", _QK, _QK // 8 + _QK // 4 + 12 + 2),
    _block("Q4_K", _QK, 2 + 2 + 12 + _QK // 2),
    _block("Q5_K", _QK, 2 + 2 + 12 + _QK // 8 + _QK // 2),
    _block("Q6_K", _QK, _QK // 2 + _QK // 4 + _QK // 16 + 2),
    _block("Q8_K", _QK, 4 + _QK + 2 * _QK // 16),  # its scale is float32
    _block("IQ1_S", _QK, 2 + _QK // 8 + _QK // 16),
    _block(
        "IQ1_M", _QK, _QK // 8 + _QK // 16 + _QK // 32
    ),  # the super-block's scale is in spare bits of the block scales
    _block("IQ2_XXS", _QK, 2 + 2 * _QK // 8),
    _block("IQ2_XS", _QK, 2 + 2 * _QK // 8 + _QK // 32),
    _block("IQ2_S", _QK, 2 + _QK // 4 + _QK // 32 + _QK // 32),
    _block("IQ3_XXS", _QK, 2 + 3 * _QK // 8),
    _block("IQ3_S", _QK, 2 + _QK // 4 + _QK // 32 + _QK // 8 + _QK // 64),
    _block("IQ4_NL", 32, 2 + 32 // 2),
    _block("IQ4_XS", _QK, 2 + 2 + _QK // 64 + _QK // 2),
    _block("TQ1_0", _QK, (_QK - 4 * _QK // 64) // 5 + _QK // 64 + 2),  # five ternary digits per byte
    _block("TQ2_0", _QK, _QK // 4 + 2),
    _block("MXFP4", 32, 1 + 32 // 2),
    _block("NVFP4", 64, 64 // 16 + 64 // 2),
)


_BY_NAME: Final[dict[str, Dtype]] = {
    spelling: dtype
    for dtype in DTYPES
    for spelling in (dtype.name, *((dtype.safetensors.lower(),) if dtype.safetensors else ()), *dtype.aliases)
}

_BLOCKS_BY_NAME: Final[dict[str, Dtype]] = {dtype.name.lower(): dtype for dtype in BLOCK_DTYPES}


@lru_cache(256)  # names come from files and options: few of them, but for each tensor
def find_dtype(name: str) -> Dtype | None:
    """The plain format for any spelling in configs and options (`torch.bfloat16`, `BF16`, `bf16`); None if unknown."""
    return _BY_NAME.get(name.lower().removeprefix("torch."))


@lru_cache(256)
def stored_dtype(name: str) -> Dtype | None:
    """The plain or block format for a name in a file; None if unknown. Options do not use these names of block formats:
    `--dtype mxfp4` is a quantisation."""
    return find_dtype(name) or _BLOCKS_BY_NAME.get(name.lower())


def canonical(name: str) -> str:
    """The name in reports for any spelling; an unknown name in lower case."""
    found = find_dtype(name)
    return found.name if found else name.lower()


RUN_DTYPES: Final = ("float64", "float32", "bfloat16", "float16")
"""Dtypes that a model can run in."""

KV_DTYPES: Final = (*RUN_DTYPES, "float8_e4m3fn", "float8_e5m2", "int8")
"""Dtypes of a KV cache."""

PACKED_KV: Final = (
    "fp8_inc",
    "fp8_ds_mla",
    "nvfp4_ds_mla",
    "turboquant_k8v4",
    "turboquant_4bit_nc",
    "turboquant_k3v4_nc",
    "turboquant_3bit_nc",
    "octave_k3v4",
    "octave_k3v3",
    "octave_k3v3_compact",
    "ultraquant_4bit",
    "int4_per_token_head",
    "int8_per_token_head",
    "fp8_per_token_head",
    "nvfp4",
    "nvfp4_4over6",
)
"""Formats of a KV cache that vLLM packs in a way of its own (`hfmem/engines/vllm/kvformats.py` has their sizes)."""
