"""Quantised checkpoints: which stored tensors hold parameters, how many each element holds, and which are scales.

Formats known by how their writers name and store tensors: GPTQ and AWQ (`qweight`), bitsandbytes, FP8 (per tensor, per
block, fbgemm), compressed-tensors (`weight_packed`), MXFP4 (`_blocks`), NVFP4 and FP8 of ModelOpt, auto-round, torchao,
HQQ (`W_q`), quanto (`weight._data`), MLX (uint32 `weight`), and FP4 packed in int8 with E8M0 scales.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hfmem.fetcher.values import TensorInfo
from hfmem.mapper.names import without_numbers

__all__ = ["Packing", "declared_cache_dtype", "packing", "quantisation_of"]

_KEYS: Final = ("quantization_config", "quantization", "compression_config")
_PARTS: Final = ("text_config", "llm_config", "language_config", "thinker_config")

# Storage that floating-point checkpoints do not have: seeing it means that the checkpoint is quantised.
_PACKED_DTYPES: Final = frozenset({"I8", "U8", "I32", "U32", "I4", "F4", "F8_E4M3", "F8_E5M2", "F8_E8M0"})
_FP8: Final = "float8_e4m3fn"

# Tensors that belong to a quantised weight and are no parameters themselves.
_SCALE: Final = re.compile(
    r"((^|\.)(scales|biases|qzeros|g_idx|scale|zero|meta|SCB|weight_format|input_scale_ub|[kvq]_scale|scale_inv|nbits|"
    r"group_size|axis|packing|(weight|input|output)_(scale|zero_point|shape|g_idx)\w*|(weight|input)_global_scale)|"
    r"_scales|_scale_inv|\.weight\._(scale|shift)|"
    r"\.weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..+))$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How one checkpoint stores quantised weights.

    Attributes:
        quantised: whether it does at all.
        bits: bits a weight has in packed storage.
        mlx: whether `biases` are MLX's zero points.
        with_e8m0: modules, without their numbers, whose scale is E8M0: what they keep in int8 is packed FP4.
    """

    quantised: bool
    bits: int
    mlx: bool
    with_e8m0: frozenset[str]

    def is_scale(self, name: str) -> bool:
        """Whether a tensor is a scale, zero point or index of a quantised one. Only quantised checkpoints are asked:
        others have parameters called `scale`."""
        if not self.quantised or (name.endswith(".biases") and not self.mlx):
            return False
        return _SCALE.search(name) is not None

    def parameters_per_element(self, tensor: TensorInfo) -> int:
        """Logical parameters that one stored element holds: 32/bits in a packed int32, 8/bits in a packed byte."""
        if not self.quantised:
            return 1
        module, _, kind = tensor.name.rpartition(".")
        if tensor.dtype in ("I32", "U32"):
            return 32 // self.bits if kind in ("qweight", "weight_packed", "weight") else 1
        if tensor.dtype == "U8":
            packed = kind in ("weight", "weight_packed", "W_q", "_data", "weight_qdata") or kind.endswith(
                ("_blocks", "_proj")
            )
            return 8 // self.bits if packed and self.bits in (1, 2, 4) else 1
        return 2 if tensor.dtype == "I8" and without_numbers(module) in self.with_e8m0 else 1


def packing(config: Mapping[str, Any], tensors: Iterable[TensorInfo]) -> Packing:
    """The packing of a checkpoint, from its configuration and one tensor of each sort."""
    found = quantisation_of(config)
    sorts = list(tensors)
    return Packing(
        quantised=bool(found) or any(tensor.dtype in _PACKED_DTYPES and _is_matrix(tensor) for tensor in sorts),
        bits=_bits(found),
        mlx=any(tensor.dtype == "U32" for tensor in sorts),
        with_e8m0=frozenset(
            without_numbers(tensor.name.rpartition(".")[0]) for tensor in sorts if tensor.dtype == "F8_E8M0"
        ),
    )


def quantisation_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The quantisation that a configuration declares, at its root or in its text part; empty where there is none."""
    for part in (config, *(config[key] for key in _PARTS if isinstance(config.get(key), Mapping))):
        for key in _KEYS:
            found = part.get(key)
            if isinstance(found, Mapping) and found:
                return found
    return {}


def declared_cache_dtype(config: Mapping[str, Any]) -> str | None:
    """The dtype of the KV cache, where the checkpoint brings scales for it: compressed-tensors' `kv_cache_scheme`,
    ModelOpt's `kv_cache_quant_algo`."""
    found = quantisation_of(config)
    inner = found.get("quantization")
    for part in (found, inner if isinstance(inner, Mapping) else {}):
        if str(part.get("kv_cache_quant_algo") or "").upper() == "FP8":
            return _FP8
        scheme = part.get("kv_cache_scheme")
        if isinstance(scheme, Mapping) and scheme.get("num_bits") == 8:
            return _FP8 if scheme.get("type", "float") == "float" else "int8"
    return None


def _is_matrix(tensor: TensorInfo) -> bool:
    return len(tensor.shape) >= 2 and min(tensor.shape) > 1 and "position_ids" not in tensor.name


def _bits(quantisation: Mapping[str, Any]) -> int:
    """Bits a packed weight has, from whichever key the format uses; 4 where none tells, the common case."""
    for key in ("bits", "w_bit", "num_bits", "nbits"):
        value: object = quantisation.get(key)
        if type(value) is int and 1 <= value <= 16:
            return value
    for group in _groups(quantisation):
        weights = group.get("weights")
        bits: object = weights.get("num_bits") if isinstance(weights, Mapping) else None
        if type(bits) is int and 1 <= bits <= 16:
            return bits
    return 8 if quantisation.get("load_in_8bit") is True else 4


def _groups(quantisation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = quantisation.get("config_groups")
    values = groups.values() if isinstance(groups, Mapping) else ()
    return [group for group in values if isinstance(group, Mapping)]
