"""The type that llama-quantize gives each tensor of a file, for each of its quantisations.

Source: src/llama-quant.cpp of llama.cpp 0.5.0 (`tensor_allows_quantization`, `llama_tensor_get_type_impl`,
`tensor_type_fallback`, `llama_ftype_get_default_type`). Importance matrices are only assumed for quantisations that
llama-quantize refuses without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from hfmem.dtypes import stored_dtype

__all__ = ["FLOATS", "QUANTISATIONS", "Facts", "NoTypeError", "Shaped", "named", "types"]


class NoTypeError(Exception):
    """A tensor's rows divide neither into blocks of the type that it should have, nor into smaller ones.

    Attributes:
        tensor: its name.
        dtype: that type.
    """

    def __init__(self, tensor: str, dtype: str) -> None:
        self.tensor = tensor
        self.dtype = dtype
        super().__init__(tensor, dtype)


class Shaped(NamedTuple):
    """A tensor before it is quantised: its name, its type and its shape, outermost size first."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the rules ask of a file's keys.

    Attributes:
        architecture: `general.architecture`.
        layers: all layers, those of further predictions among them.
        heads, kv_heads: of the first layer.
        experts: of a layer; 0 for none.
    """

    architecture: str
    layers: int
    heads: int
    kv_heads: int
    experts: int

    @property
    def grouped(self) -> int:
        """Query heads that share one of keys and values; 0 where there are none."""
        return self.heads // self.kv_heads if self.kv_heads else 0

    @property
    def is_70b(self) -> bool:
        """Whether it is `LLM_TYPE_70B`, which goes by the number of layers."""
        if self.architecture == "llama":
            return self.layers == 80 and self.heads != self.kv_heads
        return self.layers == _LARGE.get(self.architecture)


_LARGE: Final = {"deci": 80, "olmo": 80, "qwen2": 80, "jais2": 68}

FLOATS: Final = ("F32", "F16", "BF16")
"""Quantisations that are none."""

QUANTISATIONS: Final[Mapping[str, str]] = {
    **{name: name for name in FLOATS},
    **{name: name for name in ("Q1_0", "Q2_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0")},
    "MXFP4_MOE": "MXFP4",
    "IQ1_S": "IQ1_S",
    "IQ1_M": "IQ1_M",
    "IQ2_XXS": "IQ2_XXS",
    "IQ2_XS": "IQ2_XS",
    "IQ2_S": "IQ2_XS",
    "IQ2_M": "IQ2_S",
    "IQ3_XXS": "IQ3_XXS",
    "IQ3_XS": "IQ3_S",
    "IQ3_S": "IQ3_S",
    "IQ3_M": "IQ3_S",
    "IQ4_NL": "IQ4_NL",
    "IQ4_XS": "IQ4_XS",
    "Q2_K": "Q2_K",
    "Q2_K_S": "Q2_K",
    "Q3_K_S": "Q3_K",
    "Q3_K_M": "Q3_K",
    "Q3_K_L": "Q3_K",
    "Q4_K_S": "Q4_K",
    "Q4_K_M": "Q4_K",
    "Q5_K_S": "Q5_K",
    "Q5_K_M": "Q5_K",
    "Q6_K": "Q6_K",
}
"""Every quantisation of llama-quantize, and the type that most of its tensors have."""

_ALIASES: Final = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16", "FP32": "F32"}
_WITH_MATRIX: Final = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "Q2_K_S")
"""Those that llama-quantize makes only with an importance matrix (`tensor_requires_imatrix`)."""


def named(word: str) -> str | None:
    """The quantisation of a word, in any case; None where llama-quantize has no such."""
    name = _ALIASES.get(word.upper(), word.upper())
    return name if name in QUANTISATIONS else None


def types(tensors: Sequence[Shaped], facts: Facts, quantisation: str, *, matrix: bool | None = None) -> dict[str, str]:
    """The type of each tensor, by its name.

    Args:
        tensors: with the types that they are converted to.
        facts: of the file.
        quantisation: a key of `QUANTISATIONS`.
        matrix: whether it is made with an importance matrix; default: where it is made with one only.

    Raises:
        NoTypeError: llama-quantize refuses the shape of a tensor.
    """
    matrix = quantisation in _WITH_MATRIX if matrix is None else matrix
    default = QUANTISATIONS[quantisation]
    run = _Run(facts, quantisation, tensors, matrix)
    found: dict[str, str] = {}
    for tensor in sorted(tensors, key=_order):
        if not _allowed(tensor, facts.architecture):
            found[tensor.name] = tensor.dtype
        elif default in FLOATS:
            found[tensor.name] = default
        else:
            found[tensor.name] = _fitting(run.type_of(tensor, default), tensor)
    return found


def _order(tensor: Shaped) -> tuple[int, str]:
    """Layer, then name (`weight_name_comparer` of llama-model-loader.h)."""
    match = _BLOCK.match(tensor.name)
    return (int(match[1]) if match else -1, tensor.name)


_BLOCK: Final = re.compile(r"blk\.(\d+)\.")


# --- which tensors are quantised -------------------------------------------------------------------------------------

_NEVER: Final = (
    *("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj"),
    *("ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight"),
    *(
        f"time_mix_{part}.weight"
        for part in ["first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2", "decay_w1", "decay_w2"]
    ),
    *("time_mix_lerp_fused.weight", "attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_"),
    *(".rel_pos", ".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd"),
)
_NEVER_NAMES: Final = ("position_embd.weight", "token_types.weight")
_NEVER_OF: Final = {
    "glm5-next": (
        *("hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate"),
        *("indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight", "ssm_g_b.weight"),
        *("ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight", "attn_v_b.weight"),
    )
}


def _allowed(tensor: Shaped, architecture: str) -> bool:
    name = tensor.name
    if _dimensions(tensor.shape) < 2 or not name.endswith("weight") or name in _NEVER_NAMES:
        return False
    return not any(part in name for part in (*_NEVER, *_NEVER_OF.get(architecture, ())))


def _dimensions(shape: tuple[int, ...]) -> int:
    """Dimensions, without outer ones of size 1 (`ggml_n_dims`)."""
    outer = next((number for number, size in enumerate(shape) if size > 1), len(shape) - 1)
    return len(shape) - outer


# --- shapes that do not divide into blocks ---------------------------------------------------------------------------

_SMALLER: Final = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    **{"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"},
}


_SMALLEST: Final = 32


def _fitting(dtype: str, tensor: Shaped) -> str:
    """The type, or one of smaller blocks that divide a row.

    Raises:
        NoTypeError: llama-quantize has none.
    """
    row = tensor.shape[-1]
    if row % _block(dtype) == 0:
        return dtype
    if dtype not in _SMALLER and _block(dtype) > _SMALLEST:
        raise NoTypeError(tensor.name, dtype)
    smaller = _SMALLER.get(dtype, dtype)
    return smaller if row % _block(smaller) == 0 else "F16"


def _block(dtype: str) -> int:
    found = stored_dtype(dtype)
    return found.block if found is not None else 1


# --- which type ------------------------------------------------------------------------------------------------------

_Part = Literal["output", "embedding", "qkv", "kv_b", "v", "k", "q", "attention", "up", "gate", "down", "other"]

_PARTS: Final[tuple[tuple[str, _Part], ...]] = (
    ("attn_qkv.weight", "qkv"),
    ("attn_kv_b.weight", "kv_b"),
    ("attn_v.weight", "v"),
    ("attn_k.weight", "k"),
    ("attn_q.weight", "q"),
    ("attn_output.weight", "attention"),
    ("ffn_up", "up"),
    ("ffn_gate", "gate"),
    ("ffn_down", "down"),
)
_LIKE_VALUES: Final = ("v", "qkv", "kv_b")
_TINY: Final = ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ1_S", "IQ1_M")


def _part(name: str) -> _Part:
    if name == "output.weight":
        return "output"
    if name in ("token_embd.weight", "per_layer_token_embd.weight"):
        return "embedding"
    return next((part for piece, part in _PARTS if piece in name), "other")


def _more(layer: int, layers: int) -> bool:
    """Whether a layer is among those that get more bits (`use_more_bits`)."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


class _Run:
    """One quantisation of a file, whose tensors are asked in order: the rules count them."""

    def __init__(self, facts: Facts, quantisation: str, tensors: Iterable[Shaped], matrix: bool) -> None:
        self.facts, self.kind, self.matrix = facts, quantisation, matrix
        names = [tensor.name for tensor in tensors]
        self.tied = "output.weight" not in names
        self.values = sum(_part(name) in _LIKE_VALUES for name in names)
        self.seen = dict.fromkeys(("values", "down", "gate", "up"), 0)

    def type_of(self, tensor: Shaped, default: str) -> str:
        """The type of a tensor, whether its shape allows it or not."""
        part = _part(tensor.name)
        if self.facts.architecture == "glm5-next" and any(piece in tensor.name for piece in _WIDE_OF_GLM):
            return "Q8_0"
        if part == "output" or (part == "embedding" and self.tied):
            return self._output(tensor, default)
        if self.kind == "MXFP4_MOE":
            return self._mixture(tensor, part)
        if part == "embedding":
            return self._embedding(default)
        return self._tiny(part, default) if self.kind in _TINY else self._inner(tensor, part, default)

    def _output(self, tensor: Shaped, default: str) -> str:
        if self.kind == "MXFP4_MOE" or self.facts.architecture == "falcon" or tensor.shape[-1] % _block(default):
            return "Q8_0"
        if self.kind in (*_TINY, "IQ3_XXS"):
            return "Q5_K"
        return default if default == "Q8_0" else "Q6_K"

    def _mixture(self, tensor: Shaped, part: _Part) -> str:
        stacked = len(tensor.shape) > 2 and tensor.shape[-3] > 1
        expert = self.facts.architecture != "bailingmoe3" or part in ("up", "gate", "down")
        return "MXFP4" if stacked and expert else "Q8_0"

    def _embedding(self, default: str) -> str:
        if self.kind in ("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"):
            return "Q2_K"
        if self.kind in ("IQ2_S", "IQ2_M", "IQ3_XXS"):
            return "IQ3_S"
        return "Q4_K" if self.kind in ("TQ1_0", "TQ2_0", "Q2_0") else default

    def _tiny(self, part: _Part, default: str) -> str:
        """Of quantisations below three bits."""
        wide = "IQ3_S" if self.kind in ("IQ2_S", "IQ2_M") else "Q2_K"
        eight, found = self.facts.experts == 8, default
        if part in _LIKE_VALUES:
            found = "Q4_K" if self.facts.grouped >= 4 or self.facts.experts >= 4 else wide
        elif part == "k" and eight:
            found = "Q4_K"
        elif part == "down" and self._count("down") < self.facts.layers // 8:
            found = wide
        elif part == "attention" and eight:
            found = "Q5_K"
        elif part == "attention":
            found = {"IQ1_S": "IQ2_XXS", "IQ1_M": "IQ2_XXS", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S"}.get(self.kind, default)
        return found

    def _count(self, what: str) -> int:
        """How many of this part came before."""
        found = self.seen[what]
        self.seen[what] += 1
        return found

    def _value(self, default: str) -> str:
        found = self._plain_value(self._count("values"), default)
        if self.facts.is_70b and found in ("Q3_K", "Q4_K"):
            found = "Q5_K"
        return "Q8_0" if self.facts.experts == 8 else found

    def _plain_value(self, number: int, default: str) -> str:
        grouped, kind = self.facts.grouped >= 4, self.kind
        found = {
            "Q2_K": "Q4_K" if grouped else "Q3_K",
            "Q2_K_S": "Q4_K" if grouped else default,
            "IQ3_XXS": "Q4_K" if grouped else "IQ3_XXS" if self.matrix else "IQ3_S",
            "IQ3_XS": "Q4_K" if grouped else default,
            "IQ3_S": "Q4_K" if grouped else default,
            "IQ3_M": "Q4_K",
            "Q3_K_M": "Q5_K" if number < 2 else "Q4_K",
            "Q3_K_L": "Q5_K",
            "IQ4_NL": "Q5_K" if grouped else default,
            "IQ4_XS": "Q5_K" if grouped else default,
            "Q4_K_S": "Q5_K" if number < 4 else default,
        }
        if kind in ("Q4_K_M", "Q5_K_M"):
            return "Q6_K" if _more(number, self.values) else default
        return found.get(kind, default)

    def _key(self, part: _Part, default: str) -> str:
        if part == "k" and self.facts.experts == 8:
            return "Q8_0"
        return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(self.kind, default)

    def _layer(self, tensor: Shaped, what: str) -> int:
        """The number of a layer: of mixtures by its name, else by how many came before."""
        number, match = self._count(what), _BLOCK.match(tensor.name)
        return int(match[1]) if self.facts.experts > 1 and match else number

    def _down(self, tensor: Shaped, default: str) -> str:
        layer, layers = self._layer(tensor, "down"), self.facts.layers
        falcon, early, more = self.facts.architecture == "falcon", layer < layers // 8, _more(layer, layers)
        if self.kind == "Q4_K_M" and falcon:
            return "Q6_K" if layer < layers // 16 else "Q5_K" if more else "Q4_K"
        first = "Q4_1" if self.kind == "Q4_0" else "Q5_1"
        found = {
            "Q2_K": "Q3_K",
            "Q2_K_S": "Q4_K" if early else default,
            "IQ3_XXS": default if self.matrix else "Q4_K" if early else "Q3_K",
            "Q3_K_M": "Q5_K" if layer < layers // 16 else "Q4_K" if not falcon or more else "Q3_K",
            "IQ3_M": "Q4_K" if early or (self.facts.experts == 8 and more) else default,
            "Q3_K_L": "Q4_K" if falcon else "Q5_K",
            "Q4_K_M": "Q6_K" if more else default,
            "IQ4_NL": "Q5_K" if early and not self.matrix else default,
            "IQ4_XS": "Q5_K" if early and not self.matrix else default,
            "Q5_K_M": "Q6_K" if more else default,
            "Q4_K_S": "Q5_K" if early and not falcon else default,
            "Q4_0": first if early and self.matrix else default,
            "Q5_0": first if early and self.matrix else default,
        }
        return found.get(self.kind, default)

    def _attention(self, default: str) -> str:
        if self.facts.architecture == "falcon":
            return "Q4_K" if self.kind == "Q3_K_L" else default
        if self.facts.experts == 8:
            return "Q5_K" if self.kind in _MORE_OF_EIGHT else default
        found = {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}
        return found.get(self.kind, default)

    def _inner(self, tensor: Shaped, part: _Part, default: str) -> str:
        """Of all other quantisations, what lies inside of layers."""
        found = default
        if part in _LIKE_VALUES:
            found = self._value(default)
        elif part in ("k", "q"):
            found = self._key(part, default)
        elif part == "down":
            found = self._down(tensor, default)
        elif part == "attention":
            found = self._attention(default)
        elif part in ("gate", "up"):
            layer, layers = self._layer(tensor, part), self.facts.layers
            between = layers // 8 <= layer < 7 * layers // 8
            found = "IQ3_XXS" if self.kind == "IQ3_XS" and between else default
        return found


_WIDE_OF_GLM: Final = ("attn_q_a", "attn_q_b", "nextn.eh_proj")
_MORE_OF_EIGHT: Final = (
    *("Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M", "IQ4_XS"),
)
