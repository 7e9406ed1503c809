"""Quantised checkpoints: which stored tensors hold parameters, how many each element holds, and which are scales.

One row a way of packing. Sources: the formats' own writers (AutoGPTQ, AutoAWQ, bitsandbytes, compressed-tensors,
ModelOpt, `transformers`' fp8 and mxfp4 integrations), as their tensor names tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hfmem.fetcher.values import TensorInfo

__all__ = ["is_scale", "parameters_per_element"]

# Tensors that belong to a quantised weight and are no parameters themselves.
_SCALE: Final = re.compile(
    r"(\.(scales|qzeros|g_idx|weight_scale|weight_scale_\d|weight_scale_inv|input_scale|output_scale|scale|"
    r"weight_zero_point|weight_shape|weight_g_idx|input_global_scale|weight_global_scale|[kvq]_scale|SCB|weight_format)|"
    r"_scales|_scale_inv|\.weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..+))$"
)


def is_scale(name: str, *, quantised: bool) -> bool:
    """Whether a tensor is a scale, zero point or index of a quantised one (only in a quantised checkpoint: other models
    have parameters called `scale`)."""
    return quantised and _SCALE.search(name) is not None


def parameters_per_element(tensor: TensorInfo, quantisation: Mapping[str, Any]) -> int:
    """Logical parameters that one stored element holds: 32/bits in GPTQ's and AWQ's int32, 2 in a byte of a 4-bit
    format, else 1."""
    if tensor.dtype in ("I32", "U32") and tensor.name.endswith((".qweight", ".weight_packed", ".weight")):
        return max(1, 32 // _bits(quantisation))
    if tensor.dtype == "U8" and (tensor.name.endswith("_blocks") or _is_weight_of_four_bits(tensor, quantisation)):
        return 2
    if tensor.dtype == "I8" and str(quantisation.get("expert_dtype", "")).startswith("fp4"):
        return 2
    return 1


def _is_weight_of_four_bits(tensor: TensorInfo, quantisation: Mapping[str, Any]) -> bool:
    if not tensor.name.endswith((".weight", ".weight_packed", "_proj")):
        return False
    return bool(quantisation.get("load_in_4bit")) or _bits(quantisation) == 4


def _bits(quantisation: Mapping[str, Any]) -> int:
    """Bits a packed weight has, from whichever key the format uses; 4 where none tells, the common case."""
    for key in ("bits", "w_bit", "num_bits"):
        value: object = quantisation.get(key)
        if type(value) is int and 1 <= value <= 16:
            return value
    for group in _groups(quantisation):
        weights = group.get("weights")
        bits: object = weights.get("num_bits") if isinstance(weights, Mapping) else None
        if type(bits) is int and 1 <= bits <= 16:
            return bits
    return 4


def _groups(quantisation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = quantisation.get("config_groups")
    values = groups.values() if isinstance(groups, Mapping) else ()
    return [group for group in values if isinstance(group, Mapping)]
