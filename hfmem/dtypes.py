"""Number formats: one row each, with every name that safetensors, PyTorch, configs and people give it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["DTYPES", "KV_DTYPES", "RUN_DTYPES", "Dtype", "canonical", "find_dtype"]

Kind = Literal["float", "integer", "bool", "complex"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtype:
    """A number format.

    Attributes:
        name: the name used in reports, PyTorch's where it has one.
        bits: bits an element.
        kind: float, integer, bool or complex.
        safetensors: the name in a safetensors header; None where the format has none.
        aliases: other spellings, lower case.
    """

    name: str
    bits: int
    kind: Kind
    safetensors: str | None = None
    aliases: tuple[str, ...] = ()

    def nbytes(self, elements: int) -> int:
        """Bytes of so many elements, rounded up to a whole byte."""
        return -(-elements * self.bits // 8)


# Safetensors names and sizes: https://docs.rs/safetensors/latest/safetensors/tensor/enum.Dtype.html (0.8);
# PyTorch names: https://docs.pytorch.org/docs/stable/tensor_attributes.html
DTYPES: Final[tuple[Dtype, ...]] = (
    Dtype(name="float64", bits=64, kind="float", safetensors="F64", aliases=("fp64", "double")),
    Dtype(name="float32", bits=32, kind="float", safetensors="F32", aliases=("fp32", "float")),
    Dtype(name="bfloat16", bits=16, kind="float", safetensors="BF16", aliases=("bf16",)),
    Dtype(name="float16", bits=16, kind="float", safetensors="F16", aliases=("fp16", "half")),
    Dtype(name="float8_e4m3fn", bits=8, kind="float", safetensors="F8_E4M3", aliases=("fp8", "fp8_e4m3", "float8")),
    Dtype(name="float8_e5m2", bits=8, kind="float", safetensors="F8_E5M2", aliases=("fp8_e5m2",)),
    Dtype(name="float8_e4m3fnuz", bits=8, kind="float", safetensors="F8_E4M3FNUZ"),
    Dtype(name="float8_e5m2fnuz", bits=8, kind="float", safetensors="F8_E5M2FNUZ"),
    Dtype(name="float8_e8m0fnu", bits=8, kind="float", safetensors="F8_E8M0"),
    Dtype(name="float6_e2m3", bits=6, kind="float", safetensors="F6_E2M3"),
    Dtype(name="float6_e3m2", bits=6, kind="float", safetensors="F6_E3M2"),
    Dtype(name="float4_e2m1fn", bits=4, kind="float", safetensors="F4", aliases=("fp4",)),
    Dtype(name="complex64", bits=64, kind="complex", safetensors="C64"),
    Dtype(name="int64", bits=64, kind="integer", safetensors="I64", aliases=("long",)),
    Dtype(name="uint64", bits=64, kind="integer", safetensors="U64"),
    Dtype(name="int32", bits=32, kind="integer", safetensors="I32"),
    Dtype(name="uint32", bits=32, kind="integer", safetensors="U32"),
    Dtype(name="int16", bits=16, kind="integer", safetensors="I16"),
    Dtype(name="uint16", bits=16, kind="integer", safetensors="U16"),
    Dtype(name="int8", bits=8, kind="integer", safetensors="I8"),
    Dtype(name="uint8", bits=8, kind="integer", safetensors="U8"),
    Dtype(name="int4", bits=4, kind="integer", safetensors="I4"),
    Dtype(name="bool", bits=8, kind="bool", safetensors="BOOL"),
)

_BY_NAME: Final[dict[str, Dtype]] = {
    spelling: dtype
    for dtype in DTYPES
    for spelling in (dtype.name, *((dtype.safetensors.lower(),) if dtype.safetensors else ()), *dtype.aliases)
}


def find_dtype(name: str) -> Dtype | None:
    """The row for any spelling (`torch.bfloat16`, `BF16`, `bf16`); None where it is not known."""
    return _BY_NAME.get(name.lower().removeprefix("torch."))


def canonical(name: str) -> str:
    """The name that reports use for any spelling; what is not known as it is, in lower case."""
    found = find_dtype(name)
    return found.name if found else name.lower()


RUN_DTYPES: Final = ("float64", "float32", "bfloat16", "float16")
"""Dtypes that a model can be run in."""

KV_DTYPES: Final = (*RUN_DTYPES, "float8_e4m3fn", "float8_e5m2", "int8")
"""Dtypes that a cache can have."""
