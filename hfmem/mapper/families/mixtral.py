"""Mixtral and related decoders with experts in some or all layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hfmem.mapper.blueprint import Blueprint, linear, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, every, layers_of, never
from hfmem.mapper.families._dialect import Dialect, attention, norms, output_of, sizes_of
from hfmem.mapper.families._mixture import DEEPSEEK, Mixture, after_the_first, by_type, mixture, product
from hfmem.mapper.values import TensorGroup

__all__ = ["DIALECTS", "TYPES", "read"]


def _each_step(facts: Facts, layers: int) -> Sequence[bool]:
    """Every `decoder_sparse_step`-th layer, except `mlp_only_layers` (modeling_qwen2_moe.py)."""
    step = facts.integer("decoder_sparse_step")
    dense = facts.items("mlp_only_layers") or ()
    return [index not in dense and (index + 1) % step == 0 for index in range(layers)]


def _between(facts: Facts, layers: int) -> Sequence[bool]:
    """Every `moe_layer_interval`-th layer from the start index to the end index (modeling_ernie4_5_moe.py)."""
    start, interval = facts.integer("moe_layer_start_index"), facts.integer("moe_layer_interval")
    end = int(facts.number("moe_layer_end_index"))
    end = layers - 1 if end == -1 else end
    return [start <= index <= end and (index + 1) % interval == 0 for index in range(layers)]


def _every_other(facts: Facts, layers: int) -> Sequence[bool]:
    """Sliding windows of Qwen2-MoE: every other layer below `max_window_layers` (configuration_qwen2_moe.py)."""
    last = facts.integer("max_window_layers") if facts.flag("use_sliding_window") else 0
    return [index % 2 == 0 and index < last for index in range(layers)]


def _all_if_used(facts: Facts, layers: int) -> Sequence[bool]:
    """All layers, if sliding windows are enabled (configuration_qwen3_moe.py)."""
    used = facts.flag("use_sliding_window") and facts.optional_integer("sliding_window") is not None
    return (used,) * layers


def _last_layers(facts: Facts, layers: int) -> Sequence[bool]:
    """Layers from `max_window_layers` on (configuration_dots1.py)."""
    first = layers if facts.optional_integer("sliding_window") is None else facts.integer("max_window_layers")
    return [index >= first for index in range(layers)]


def _sinks(_: Facts, s: Sizes) -> list[TensorGroup]:
    """Attention sinks: a learned logit per head (modeling_gpt_oss.py)."""
    return weight("attention", "sinks", s.heads, count=s.layers)


def _gates(_: Facts, s: Sizes) -> list[TensorGroup]:
    """The gate of the attention output (modeling_afmoe.py)."""
    return linear("attention", "gate_proj", s.query, s.hidden, count=s.layers)


def _after_the_dense(facts: Facts, layers: int) -> Sequence[bool]:
    """All layers but the first `num_dense_layers` (modeling_afmoe.py)."""
    return [index >= facts.integer("num_dense_layers") for index in range(layers)]


def _all(_: Facts, layers: int) -> Sequence[bool]:
    return (True,) * layers


def _after_the_first_one(_: Facts, layers: int) -> Sequence[bool]:
    """All layers but the first (configuration_hy_v3.py)."""
    return [index > 0 for index in range(layers)]


def _all_but_each_fourth(_: Facts, layers: int) -> Sequence[bool]:
    """Full attention in layers 0, 4, 8, …; a sliding window in the others (configuration_granitemoe_swa.py)."""
    return [index % 4 != 0 for index in range(layers)]


def _between_full_ones(_: Facts, layers: int) -> Sequence[bool]:
    """Full attention in the first two layers, in layers 5, 9, 13, … and in the last (configuration_flint.py)."""
    return [index >= 2 and index % 4 != 1 and index != layers - 1 for index in range(layers)]


def _after_two(facts: Facts, layers: int) -> Sequence[bool]:
    """Every `decoder_sparse_step`-th layer, except `mlp_only_layers`, by default the first two
    (configuration_flint.py)."""
    step, dense = facts.integer("decoder_sparse_step"), facts.items("mlp_only_layers")
    dense = (0, 1) if dense is None else dense
    return [index not in dense and (index + 1) % step == 0 for index in range(layers)]


def _every_if_windowed(facts: Facts, layers: int) -> Sequence[bool]:
    """`every(4)` if the config has a sliding window, else full attention (configuration_exaone_moe.py)."""
    if facts.optional_integer("sliding_window") is None:
        return (False,) * layers
    return every(4, "sliding_window_pattern")(facts, layers)


def _after_the_prefix(facts: Facts, layers: int) -> Sequence[bool]:
    """Full attention in every n-th layer, with separate patterns for the leading dense layers and for the rest
    (configuration_cohere2_moe.py)."""
    first = min(facts.integer("first_k_dense_replace", default=0), layers)
    before, after = (every(1, key) for key in ("prefix_dense_sliding_window_pattern", "sliding_window_pattern"))
    return [*before(facts, first), *after(facts, layers - first)]


def _after_any_dense(facts: Facts, layers: int) -> Sequence[bool]:
    """All layers but the first `first_k_dense_replace` (default 0, configuration_cohere2_moe.py)."""
    return [index >= facts.integer("first_k_dense_replace", default=0) for index in range(layers)]


_PLAIN = Dialect()
_BIAS = Dialect(qkv_bias="attention_bias", out_bias="attention_bias")
_QWEN3 = Mixture(intermediate="moe_intermediate_size", count="num_experts", sparse=_each_step)
_SHARED = Mixture(
    intermediate="moe_intermediate_size",
    count="num_experts",
    shared=product("moe_intermediate_size", "num_shared_experts"),
)
_ONE_SHARED = replace(_SHARED, shared=lambda facts: facts.integer("shared_expert_intermediate_size"))
DIALECTS: Final[dict[str, tuple[Dialect, Mixture]]] = {
    "afmoe": (
        replace(_BIAS, qk_norm="head", norms=4, more=_gates, schedule=every(4, "global_attn_every_n_layers")),
        replace(_SHARED, sparse=_after_the_dense, fixed=1),
    ),
    "aria_text": (
        _BIAS,
        Mixture(
            count="moe_num_experts",
            used="moe_topk",
            shared=product("intermediate_size", "moe_num_shared_experts"),
            mlp_bias="mlp_bias",
        ),
    ),
    "cohere2_moe": (
        replace(_BIAS, norms=1, schedule=_after_the_prefix),
        Mixture(
            count="num_experts",
            sparse=by_type(_after_any_dense),
            shared=product("intermediate_size", "num_shared_experts"),
            dense="prefix_dense_intermediate_size",
        ),
    ),
    "dots1": (replace(_BIAS, qk_norm="head", schedule=_last_layers), DEEPSEEK),
    "ernie4_5_moe": (
        Dialect(qkv_bias="use_bias", out_bias="use_bias", head_bias="use_bias"),
        Mixture(
            intermediate="moe_intermediate_size",
            count="moe_num_experts",
            used="moe_k",
            sparse=_between,
            shared=product("moe_intermediate_size", "moe_num_shared_experts"),
            fixed=1,
            mlp_bias="use_bias",
        ),
    ),
    "exaone_moe": (
        Dialect(qk_norm="head", schedule=_every_if_windowed),
        replace(_SHARED, sparse=by_type(after_the_first)),
    ),
    "flint": (
        replace(_BIAS, qk_norm="head", more=_sinks, schedule=_between_full_ones),
        replace(_ONE_SHARED, sparse=_after_two),
    ),
    "flex_olmo": (replace(_BIAS, qk_norm="whole"), Mixture(count="num_experts")),
    "glm4_moe": (
        Dialect(qkv_bias="attention_bias", qk_norm="head", qk_flag="use_qk_norm"),
        DEEPSEEK,
    ),
    "glm4v_moe_text": (Dialect(qkv_bias="attention_bias", schedule=never), DEEPSEEK),
    "gpt_oss": (replace(_BIAS, schedule=every(2), more=_sinks), Mixture(expert_bias=True)),
    "granitemoe": (_BIAS, Mixture()),
    "granitemoeshared": (_BIAS, Mixture(shared=lambda facts: facts.integer("shared_intermediate_size"))),
    "granitemoe_swa": (
        replace(_BIAS, schedule=_all_but_each_fourth, more=_sinks),
        Mixture(shared=lambda facts: facts.integer("shared_intermediate_size")),
    ),
    "hunyuan_v1_moe": (
        replace(_BIAS, qk_norm="head"),
        Mixture(count="num_experts", used="moe_topk", shared=lambda facts: facts.integer("intermediate_size")),
    ),
    "hy_v3": (
        replace(_BIAS, qk_norm="head", schedule=never),
        replace(_SHARED, sparse=by_type(_after_the_first_one), mlp_bias="mlp_bias"),
    ),
    "kolibri1": (
        Dialect(qk_norm="head", norms=4, schedule=every(5)),
        replace(_ONE_SHARED, count="num_local_experts"),
    ),
    "mellum": (
        replace(_BIAS, qk_norm="head", schedule=never),
        Mixture(intermediate="moe_intermediate_size", count="num_local_experts", sparse=by_type(_all)),
    ),
    "minimax_m2": (replace(_PLAIN, qk_norm="whole"), Mixture()),
    "mixtral": (_PLAIN, Mixture()),
    "olmoe": (replace(_BIAS, qk_norm="whole"), Mixture(count="num_experts")),
    "phimoe": (replace(_BIAS, norm_bias=True, head_bias="lm_head_bias"), Mixture()),
    "qwen2_moe": (
        Dialect(qkv_bias="qkv_bias", schedule=_every_other),
        Mixture(
            intermediate="moe_intermediate_size",
            count="num_experts",
            sparse=_each_step,
            shared=lambda facts: facts.integer("shared_expert_intermediate_size"),
            shared_gate=True,
        ),
    ),
    "qwen3_moe": (replace(_BIAS, qk_norm="head", schedule=_all_if_used), _QWEN3),
    "qwen3_omni_moe_text": (replace(_BIAS, qk_norm="head"), _QWEN3),
    "qwen3_vl_moe_text": (replace(_BIAS, qk_norm="head", schedule=never), _QWEN3),
    "solar_open": (
        Dialect(qkv_bias="attention_bias", schedule=never),
        replace(DEEPSEEK, sparse=_all),
    ),
}

TYPES: Final = frozenset(DIALECTS)


def read(facts: Facts) -> Blueprint:
    """Layers and weights of a decoder with experts."""
    dialect, mixed = DIALECTS[facts.model_type]
    s = sizes_of(facts, dialect)
    ffns, networks = mixture(facts, mixed, s.hidden, s.layers)
    weights = [*attention(facts, s, dialect), *networks, *norms(facts, s, dialect)]
    return decoder(facts, s, weights, layers_of(facts, s, ffns, dialect.schedule), output_of(facts, s, dialect))
