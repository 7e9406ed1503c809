"""Quantised checkpoints: which stored tensors hold parameters, how many per element, and which are scales.

Formats are recognised by the names and dtypes of tensors: GPTQ and AWQ (`qweight`), bitsandbytes, FP8 (per tensor, per
block, fbgemm), compressed-tensors (`weight_packed`), MXFP4 (`_blocks`), NVFP4 and FP8 of ModelOpt, auto-round, torchao,
HQQ (`W_q`), quanto (`weight._data`), MLX (uint32 `weight`), and FP4 packed in int8 with E8M0 scales.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from hfmem.fetcher.values import TensorInfo
from hfmem.mapper.values import Quantisation

__all__ = ["Packing", "declared_cache_dtype", "declared_quantisation", "packing", "quantisation_of"]

_KEYS: Final = ("quantization_config", "quantization", "compression_config")
_PARTS: Final = ("text_config", "llm_config", "language_config", "thinker_config")

# Dtypes that unquantised checkpoints do not use for matrices.
_PACKED_DTYPES: Final = frozenset({"I8", "U8", "I32", "U32", "I4", "F4", "F8_E4M3", "F8_E5M2", "F8_E8M0"})
_FP8: Final = "float8_e4m3fn"

# Tensors that belong to a quantised weight, and are not parameters themselves.
_SCALE: Final = re.compile(
    r"((^|\.)(scales|biases|qzeros|g_idx|scale|zero|meta|SCB|weight_format|input_scale_ub|[kvq]_scale|scale_inv|nbits|"
    r"group_size|axis|packing|(weight|input|output)_(scale|zero_point|shape|g_idx)\w*|(weight|input)_global_scale)|"
    r"_scales|_scale_inv|\.weight\._(scale|shift)|"
    r"\.weight\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..+))$"
)


class Packing(NamedTuple):
    """How a checkpoint stores quantised weights.

    Attributes:
        quantised: whether the checkpoint is quantised.
        bits: bits per packed weight.
        own_bits: overrides of `bits` by module name (MLX).
        mlx: whether tensors named `biases` are MLX's zero points.
        with_e8m0: modules (with # for numbers) with E8M0 scales, whose int8 weights are packed FP4.
    """

    quantised: bool
    bits: int
    own_bits: Mapping[str, int]
    mlx: bool
    with_e8m0: frozenset[str]

    def is_scale(self, name: str) -> bool:
        """Whether a tensor is a scale, zero point or index of a quantised one; False for unquantised checkpoints, which
        have parameters called `scale`."""
        if not self.quantised or (name.endswith(".biases") and not self.mlx):
            return False
        return _SCALE.search(name) is not None

    def parameters(self, tensor: TensorInfo) -> int:
        """Logical parameters that a tensor holds. Values are packed without gaps, across 32-bit word boundaries if
        their bits do not divide 32: 32 values of 3 bits in three words (GPTQ: gptqmodel 7.7, `pack_block` of
        nn_modules/qlinear; compressed-tensors 0.20, `pack_to_int32`; MLX: auto-round 0.16.1, mlx/qlinear_mlx.py)."""
        if not self.quantised:
            return tensor.elements
        module, _, kind = tensor.name.rpartition(".")
        if tensor.dtype in ("I32", "U32"):
            # zero points and group indices have the same dtype, but are not weights
            packed = kind in ("qweight", "weight_packed", "weight")
            return tensor.elements * 32 // self.own_bits.get(module, self.bits) if packed else tensor.elements
        if tensor.dtype == "U8":
            packed = kind in ("weight", "weight_packed", "W_q", "_data", "weight_qdata") or kind.endswith(
                ("_blocks", "_proj")
            )
            return tensor.elements * (8 // self.bits if packed and self.bits in (1, 2, 4) else 1)
        fp4 = tensor.dtype == "I8" and self.with_e8m0 and _numberless(module) in self.with_e8m0
        return tensor.elements * (2 if fp4 else 1)


def packing(config: Mapping[str, Any], tensors: Iterable[TensorInfo]) -> Packing:
    """The packing of a checkpoint, from its config and one tensor of each kind."""
    found = quantisation_of(config)
    sorts = list(tensors)
    return Packing(
        # some checkpoints are packed without a quantisation config, which only their dtypes show
        quantised=bool(found) or any(tensor.dtype in _PACKED_DTYPES and _is_matrix(tensor) for tensor in sorts),
        bits=_bits(found),
        own_bits={name: _bits(own) for name, own in found.items() if isinstance(own, Mapping) and "bits" in own},
        mlx=any(tensor.dtype == "U32" for tensor in sorts),  # other quantisers pack into signed integers
        with_e8m0=frozenset(
            _numberless(tensor.name.rpartition(".")[0]) for tensor in sorts if tensor.dtype == "F8_E8M0"
        ),
    )


def quantisation_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The quantisation config, at the root or in the text model's config; empty if there is none."""
    for part in (config, *(config[key] for key in _PARTS if isinstance(config.get(key), Mapping))):
        for key in _KEYS:
            found = part.get(key)
            if isinstance(found, Mapping) and found:
                return found
    return {}


_LARGEST_GROUP: Final = 2**20
_LONGEST_NAME: Final = 80  # characters of a method or format name

_SPELLINGS: Final[dict[str, str]] = {
    "compressed_tensors": "compressed-tensors",
    "auto_gptq": "gptq",
    "gptq_marlin": "gptq",
    "awq_marlin": "awq",
    "auto_awq": "awq",
    "intel/auto-round": "auto-round",
    "auto_round": "auto-round",
    "bitsandbytes_4bit": "bitsandbytes",
    "bitsandbytes_8bit": "bitsandbytes",
    "modelopt_fp4": "modelopt",
    "modelopt_mixed": "modelopt",
}


def declared_quantisation(config: Mapping[str, Any]) -> Quantisation | None:
    """How a checkpoint is quantised according to its config; None if it has no quantisation config."""
    found = quantisation_of(config)
    if not found:
        return None
    inner = found.get("quantization")
    facts = {**found, **inner} if isinstance(inner, Mapping) else found
    method, bits, size = _method(facts), _bits(facts), facts.get("group_size")
    return Quantisation(
        method=method,
        scheme=_scheme(method, bits, facts),
        bits=bits,
        symmetric=facts.get("sym") is not False and facts.get("zero_point") is not True,
        # with one group per output channel (-1), reordering the inputs changes nothing
        reordered=facts.get("desc_act") is True and facts.get("group_size") != -1,
        static=facts.get("activation_scheme") == "static",
        group=size if type(size) is int and 0 < size <= _LARGEST_GROUP else 0,
    )


def _method(facts: Mapping[str, Any]) -> str:
    """The quantiser's name; without `quant_method`, inferred from keys that only one quantiser writes."""
    name = facts.get("quant_method")
    if isinstance(name, str) and name:
        return _SPELLINGS.get(name.lower(), name.lower()[:_LONGEST_NAME])
    if facts.get("load_in_4bit") is True or facts.get("load_in_8bit") is True:
        return "bitsandbytes"
    if facts.get("quant_algo"):
        return "modelopt"
    return "mlx" if "bits" in facts and "group_size" in facts else ""


def _scheme(method: str, bits: int, facts: Mapping[str, Any]) -> str:
    """The number format of packed weights."""
    if method == "modelopt":
        return _algorithm(str(facts.get("quant_algo") or ""))
    if method == "compressed-tensors":
        found = {group_scheme(group) for group in _groups(facts)}
        return found.pop() if len(found) == 1 else "mixed"
    if method == "gptq" and facts.get("desc_act") is True and facts.get("group_size") != -1:
        return "reordered"
    if method == "gptq" and facts.get("sym") is False:
        return "asymmetric"
    if method == "bitsandbytes" and bits == 4:
        return "nf4"
    return _NAMED.get(method, f"int{bits}")


_NAMED: Final = {"fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "mxfp4", "mxfp8": "mxfp8", "nvfp4": "nvfp4"}


def _algorithm(name: str) -> str:
    """hfmem's name for a format of ModelOpt."""
    words = {"NVFP4": "nvfp4", "W4A16_NVFP4": "nvfp4", "MIXED_PRECISION": "mixed", "MXFP8": "mxfp8", "MXFP4": "mxfp4"}
    if name.upper() in words:
        return words[name.upper()]
    return "fp8" if name.upper().startswith("FP8") else name.lower()[:_LONGEST_NAME]


def group_scheme(group: Mapping[str, Any]) -> str:
    """The number format of a config group of compressed-tensors."""
    weights = group.get("weights")
    facts = weights if isinstance(weights, Mapping) else {}
    bits, size = facts.get("num_bits"), facts.get("group_size")
    if facts.get("type", "int") == "float":
        narrow = "nvfp4" if size == 16 else "mxfp4"  # blocks of 16 or of 32
        return narrow if bits == 4 else ("mxfp8" if size == 32 else "fp8")
    return f"int{bits}"[:_LONGEST_NAME]


def declared_cache_dtype(config: Mapping[str, Any]) -> str | None:
    """The KV cache dtype for which the checkpoint has scales, if any: compressed-tensors' `kv_cache_scheme`, ModelOpt's
    `kv_cache_quant_algo`."""
    found = quantisation_of(config)
    inner = found.get("quantization")
    for part in (found, inner if isinstance(inner, Mapping) else {}):
        if str(part.get("kv_cache_quant_algo") or "").upper() == "FP8":
            return _FP8
        scheme = part.get("kv_cache_scheme")
        if isinstance(scheme, Mapping) and scheme.get("num_bits") == 8:
            return _FP8 if scheme.get("type", "float") == "float" else "int8"
    return None


def _numberless(name: str) -> str:
    from hfmem.mapper.names import without_numbers  # for headers only: the config tells the rest

    return without_numbers(name)


def _is_matrix(tensor: TensorInfo) -> bool:
    # a dimension of 1 is that of a scale or a broadcast vector
    return len(tensor.shape) >= 2 and min(tensor.shape) > 1 and "position_ids" not in tensor.name


def _bits(quantisation: Mapping[str, Any]) -> int:
    """Bits per packed weight, from the format's key; 4, the most common, if there is none."""
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
