"""The tensors that store a matrix under a quantisation: packed weights, scales, zero points.

A scheme maps the shape of plain matrices (..., outputs, inputs) to the stored tensors. Dtypes are named as in
safetensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Scheme", "algorithm", "group_scheme", "scheme_of"]

Shape = tuple[int, ...]
Stored = tuple[tuple[str, str, Shape], ...]
"""(suffix of the role, dtype, shape) per tensor; the suffix is e.g. `.weight_scale`, and "" for the weights themselves.
The first tensor holds the parameters."""

Scheme = Callable[[Shape], Stored]


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple)


def _whole(value: object, default: int) -> int:
    """A size from the config, or the default if it is not plausible."""
    return value if type(value) is int and 0 < value <= 1 << 20 else default


def fp8_blocks(rows: int, columns: int, scale: str) -> Scheme:
    """One scale per block (arXiv 2412.19437, section 3.3.2)."""

    def stored(shape: Shape) -> Stored:
        *rest, outputs, inputs = shape
        blocks = (*rest, _up(outputs, rows), _up(inputs, columns))
        return ("", "F8_E4M3", shape), (".weight_scale_inv", scale, blocks)

    return stored


def fp8_tensor(shape: Shape) -> Stored:
    """One scale per matrix, and one for its activations (ModelOpt, and `activation_scheme: static`)."""
    return ("", "F8_E4M3", shape), (".weight_scale", "F32", shape[:-2]), (".input_scale", "F32", shape[:-2])


def _rows(dtype: str, scale: str) -> Scheme:
    """One scale per output channel (fbgemm, compressed-tensors' `channel`, LLM.int8())."""
    return lambda shape: (("", dtype, shape), (".weight_scale", scale, (*shape[:-1], 1)))


def nvfp4(shape: Shape) -> Stored:
    """Two values per byte, an FP8 scale per block of 16, and two scales per matrix (ModelOpt's unified export)."""
    *rest, inputs = shape
    return (
        ("", "U8", (*rest, _up(inputs, 2))),
        (".weight_scale", "F8_E4M3", (*rest, _up(inputs, 16))),
        (".weight_scale_2", "F32", shape[:-2]),
        (".input_scale", "F32", shape[:-2]),
    )


def mxfp4_blocks(shape: Shape) -> Stored:
    """Blocks of 32 values in 16 bytes, each with an exponent (openai/gpt-oss, `torch/weights.py`)."""
    *rest, inputs = shape
    blocks = (*rest, _up(inputs, 32))
    return ("_blocks", "U8", (*blocks, 16)), ("_scales", "U8", blocks)


def fp4_exponents(shape: Shape) -> Stored:
    """DeepSeek-V4's experts: two values per int8, an E8M0 scale per block of 32."""
    *rest, inputs = shape
    return ("", "I8", (*rest, _up(inputs, 2))), (".scale", "F8_E8M0", (*rest, _up(inputs, 32)))


def mxfp8(shape: Shape) -> Stored:
    """One exponent per block of 32 (OCP Microscaling Formats 1.0)."""
    return ("", "F8_E4M3", shape), (".weight_scale", "U8", (*shape[:-1], _up(shape[-1], 32)))


def integers(bits: int, group: int, *, zeros: bool, reordered: bool = False) -> Scheme:
    """GPTQ's and AWQ's layout: 32/bits values per int32, a float16 scale and a zero point per group of inputs."""

    def stored(shape: Shape) -> Stored:
        *rest, outputs, inputs = shape
        groups = _up(inputs, group) if group > 0 else 1  # -1: one group per output
        found: Stored = (
            (".qweight", "I32", (*rest, _up(inputs * bits, 32), outputs)),
            (".scales", "F16", (*rest, groups, outputs)),
        )
        found += ((".qzeros", "I32", (*rest, groups, _up(outputs * bits, 32))),) if zeros else ()
        return (*found, (".g_idx", "I32", (*rest, inputs))) if reordered else found

    return stored


def _mlx(facts: Mapping[str, Any], bits: int) -> Scheme | None:
    """MLX's `quantize` (mlx 0.32, mlx/ops.cpp): 32-bit words, and per group of inputs a scale and a zero point, or a
    scale of one byte."""
    mode = facts.get("mode") or "affine"
    size = {"affine": 64, "mxfp4": 32, "mxfp8": 32, "nvfp4": 16}.get(mode if isinstance(mode, str) else "")
    if size is None:
        return None
    group = _whole(facts.get("group_size"), size)
    scales = {"float32": "F32", "float16": "F16"}.get(str(facts.get("scales")), "BF16")  # the dtype of the model

    def stored(shape: Shape) -> Stored:
        *rest, inputs = shape
        groups = (*rest, _up(inputs, group))
        packed = ("", "U32", (*rest, _up(inputs * bits, 32)))
        if mode != "affine":
            return packed, (".scales", "U8", groups)
        return packed, (".scales", scales, groups), (".biases", scales, groups)

    return stored


def _compressed(weights: Mapping[str, Any]) -> Scheme:
    """compressed-tensors 0.20, `quantization/quant_scheme.py`; scales have the dtype of the model."""
    bits, size = _whole(weights.get("num_bits"), 8), weights.get("group_size")
    if weights.get("type", "int") == "float":
        if bits == 4:
            return nvfp4 if size == 16 else _mxfp4_packed  # blocks of 16 or of 32
        return mxfp8 if size == 32 else _float8(weights)
    if weights.get("strategy") == "tensor":
        return lambda shape: (("", "I8", shape), (".weight_scale", "BF16", shape[:-2]))
    if bits == 8 and not _whole(size, 0):
        return _rows("I8", "BF16")
    return _packed(bits, _whole(size, 0), symmetric=weights.get("symmetric") is not False)


def _float8(weights: Mapping[str, Any]) -> Scheme:
    blocks = weights.get("block_structure")
    if weights.get("strategy") == "block" and isinstance(blocks, list) and len(blocks) == 2:
        return fp8_blocks(_whole(blocks[0], 128), _whole(blocks[1], 128), "BF16")
    return fp8_tensor if weights.get("strategy") == "tensor" else _rows("F8_E4M3", "BF16")


def _mxfp4_packed(shape: Shape) -> Stored:
    *rest, inputs = shape
    return (".weight_packed", "U8", (*rest, _up(inputs, 2))), (".weight_scale", "U8", (*rest, _up(inputs, 32)))


def _packed(bits: int, size: int, *, symmetric: bool) -> Scheme:
    """compressed-tensors' `pack-quantized`: the plain shape is stored too; zero points are packed."""

    def stored(shape: Shape) -> Stored:
        *rest, outputs, inputs = shape
        groups = _up(inputs, size) if size else 1
        found: Stored = (
            (".weight_packed", "I32", (*rest, outputs, _up(inputs * bits, 32))),
            (".weight_scale", "BF16", (*rest, outputs, groups)),
            (".weight_shape", "I64", (*rest, 2)),
        )
        return found if symmetric else (*found, (".weight_zero_point", "I32", (*rest, _up(outputs * bits, 32), groups)))

    return stored


def _four_bits(double: bool) -> Scheme:
    """bitsandbytes: two values per byte, and a float32 absmax per block of 64; with double quantisation the absmax is
    one byte, with a float32 per 256 blocks."""

    def stored(shape: Shape) -> Stored:
        elements = 1
        for size in shape:
            elements *= size
        blocks = _up(elements, 64)
        packed = ("", "U8", (_up(elements, 2), 1))  # bitsandbytes flattens the matrix
        if not double:
            return packed, (".weight.absmax", "F32", (blocks,))
        return packed, (".weight.absmax", "U8", (blocks,)), (".weight.nested_absmax", "F32", (_up(blocks, 256),))

    return stored


def algorithm(name: str, facts: Mapping[str, Any]) -> Scheme | None:
    """The scheme of a `quant_algo` of ModelOpt; None for an unknown one."""
    word = name.upper()
    if word in ("NVFP4", "W4A16_NVFP4"):
        return nvfp4
    if word == "MXFP8":
        return mxfp8
    if word in ("FP8_PB_WO", "FP8_BLOCK", "FP8_BLOCK_SCALES"):
        return fp8_blocks(128, 128, "F32")
    if word == "FP8_PER_CHANNEL_PER_TOKEN":
        return _rows("F8_E4M3", "F32")
    if word == "FP8":
        return fp8_tensor
    return integers(4, _whole(facts.get("group_size"), 128), zeros=False) if "INT4" in word or "W4A" in word else None


def group_scheme(group: Mapping[str, Any]) -> Scheme | None:
    """The scheme of a config group of compressed-tensors; None if it quantises activations only."""
    weights = group.get("weights")
    return _compressed(weights) if isinstance(weights, Mapping) and weights else None


def scheme_of(method: str, facts: Mapping[str, Any], bits: int) -> Scheme | None:
    """The scheme that a method uses for all matrices; None for an unknown method, or one with several schemes."""
    size = facts.get("group_size")
    group = -1 if size == -1 else _whole(size, 128)
    if method == "fp8":
        return _fp8(facts)
    if method == "auto-round" and facts.get("data_type") not in (None, "int"):
        return _auto_round(str(facts["data_type"]), facts, bits)
    if method in ("gptq", "auto-round", "awq"):
        zeros = method != "awq" or facts.get("zero_point") is not False
        return integers(bits, group, zeros=zeros, reordered=method == "gptq")
    if method == "bitsandbytes":
        double = facts.get("bnb_4bit_use_double_quant") is True
        return _rows("I8", "F32") if facts.get("load_in_8bit") is True else _four_bits(double)
    if method == "modelopt":
        return algorithm(str(facts.get("quant_algo") or ""), facts)
    plain: dict[str, Scheme] = {"mxfp4": mxfp4_blocks, "mxfp8": mxfp8, "fbgemm_fp8": _rows("F8_E4M3", "F32")}
    return _mlx(facts, bits) if method == "mlx" else plain.get(method)


def _auto_round(kind: str, facts: Mapping[str, Any], bits: int) -> Scheme | None:
    """auto-round's floating-point formats (vLLM 0.33, `quantization/inc/config_parser.py:36-57`)."""
    size = facts.get("group_size")
    if "mx_fp" in kind:
        return {4: _mxfp4_packed, 8: mxfp8}.get(bits)
    if kind in ("fp", "fp8") and bits == 8 and isinstance(size, list) and len(size) == 2:
        return fp8_blocks(_whole(size[0], 128), _whole(size[1], 128), "BF16")
    return None


def _fp8(facts: Mapping[str, Any]) -> Scheme:
    blocks = facts.get("weight_block_size")
    if isinstance(blocks, list) and len(blocks) == 2:
        return fp8_blocks(
            _whole(blocks[0], 128), _whole(blocks[1], 128), "F8_E8M0" if facts.get("scale_fmt") == "ue8m0" else "F32"
        )
    if facts.get("activation_scheme") == "static":
        return fp8_tensor
    return lambda shape: (("", "F8_E4M3", shape), (".weight_scale", "F32", shape[:-2]))
