"""Denoisers of pipelines that diffusers quantises while it loads them: which of their tensors, in which layout, and
what a layer's call takes besides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hfmem.dtypes import stored_dtype
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.weights.nf4 import NF4_SOURCE, nf4_bytes
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.values import TensorGroup

if TYPE_CHECKING:
    from hfmem.mapper.pipelines.values import Component

__all__ = ["FORMATS", "RUN_DTYPE", "Format", "format_of", "is_packed", "is_stored_packed"]

RUN_DTYPE: Final = "bfloat16"
"""What the rest of a pipeline runs in whose denoiser is quantised: torchao's integer formats take no other (diffusers
0.42.1, `torchao_quantizer.py::update_torch_dtype`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format that diffusers quantises linear layers to.

    Attributes:
        name: its name in `--dtype`.
        written: what asks for it in Python.
        needs: the module that its names are in, other than diffusers, and the name; () for none.
        matrix: bytes of a matrix of so many outputs and inputs, with its scales.
        each: bytes of an element, in words.
        weight: bytes of an element that a layer's call holds besides, as it computes with a copy in bfloat16.
        output: bytes of an element of a layer's output that its call holds besides.
        sequential: whether accelerate's hooks bring its layers to the accelerator one by one.
        group: whether diffusers' groups do.
        source: where that is from.
    """

    name: str
    written: str
    needs: tuple[str, ...]
    matrix: Callable[[int, int], int]
    each: str
    weight: int
    output: int
    sequential: bool
    group: bool
    source: str


def _rowwise(outputs: int, inputs: int) -> int:
    return outputs * inputs + 4 * outputs


FORMATS: Final = (
    Format(
        name="nf4",
        needs=(),
        written=(
            'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)'
        ),
        matrix=lambda outputs, inputs: nf4_bytes(outputs * inputs, False),
        each="4 bits and 4 B per 64 (bitsandbytes NF4)",
        weight=2,
        output=0,
        sequential=False,
        group=False,
        source=f"{NF4_SOURCE}; diffusers 0.42.1, quantizers/bitsandbytes/utils.py: linear layers",
    ),
    Format(
        name="int8",
        needs=("torchao.quantization", "Int8WeightOnlyConfig"),
        written="TorchAoConfig(Int8WeightOnlyConfig())",
        matrix=_rowwise,
        each="1 B and 4 B per output channel (torchao Int8WeightOnlyConfig)",
        weight=2,
        output=2,
        sequential=True,
        group=True,
        source="torchao 0.18, int8_tensor.py: a float32 scale per row; the product is scaled into another tensor",
    ),
    Format(
        name="fp8",
        needs=("torchao.quantization", "Float8WeightOnlyConfig"),
        written="TorchAoConfig(Float8WeightOnlyConfig())",
        matrix=_rowwise,
        each="1 B and 4 B per output channel (torchao Float8WeightOnlyConfig)",
        weight=10,
        output=0,
        sequential=True,
        group=True,
        source="torchao 0.18, quant_primitives.py::_dequantize_affine_float8: two float32 copies, one in bfloat16",
    ),
)
"""torchao is what diffusers takes for 8 bits here, as its layers run in bfloat16; NF4 is only in bitsandbytes."""

_BY_NAME: Final = {row.name: row for row in FORMATS}


def format_of(component: Component, scenario: Scenario) -> Format | None:
    """The format of a component; None for one that is not quantised while loading."""
    if component.kind != "denoiser" or not scenario.word:
        return None
    found = find_quantiser(scenario.dtype or "")
    return None if found is None else _BY_NAME.get(found.name)


def is_packed(group: TensorGroup) -> bool:
    """Whether tensors are quantised: weights of linear layers, except in modules that the class keeps in float32."""
    return (
        group.linear and len(group.shape) == 2 and group.loaded and not group.scale and RUN_DTYPE not in group.full_in
    )


def is_stored_packed(group: TensorGroup) -> bool:
    """Whether matrices are quantised in the files: in a number format that nothing runs in, or packed in blocks."""
    found = stored_dtype(group.dtype) if group.dtype else None
    plain = group.dtype is None or (found is not None and found.is_wide_float)
    return len(group.shape) == 2 and group.loaded and bool(group.parameters) and not plain
