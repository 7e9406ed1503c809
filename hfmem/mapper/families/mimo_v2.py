"""MiMo-V2-Flash: sliding-window layers with twice the KV heads of full-attention layers, values smaller than keys, and
experts (configuration_mimo_v2_flash.py, modeling_mimo_v2_flash.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm, weight
from hfmem.mapper.caches import KV
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, layers_of, sizes
from hfmem.mapper.families._mixture import DEEPSEEK, by_type, mixture
from hfmem.mapper.values import Layer, TensorGroup

__all__ = ["read"]


def _listed(facts: Facts, key: str, layers: int) -> Sequence[bool] | None:
    """A flag per layer from a list of numbers; None where the list is missing or has another length."""
    listed = facts.items(key)
    return None if listed is None or len(listed) != layers else [bool(item) for item in listed]


def _slides(facts: Facts, layers: int) -> Sequence[bool]:
    """From `hybrid_layer_pattern`, else full attention in the first and every sixth layer."""
    default = [index > 0 and (index + 1) % 6 != 0 for index in range(layers)]
    return _listed(facts, "hybrid_layer_pattern", layers) or default


def _sparse(facts: Facts, layers: int) -> Sequence[bool]:
    return _listed(facts, "moe_layer_freq", layers) or [index > 0 for index in range(layers)]


_MIXTURE: Final = replace(DEEPSEEK, sparse=by_type(_sparse), shared=lambda _: 0)


def read(facts: Facts) -> Blueprint:
    """Layers and weights. `sliding_window_size` excludes the current token, `sliding_window` includes it."""
    s = sizes(facts)
    before = facts.optional_integer("sliding_window_size")
    window = facts.integer("sliding_window") if before is None else before + 1
    ffns, networks = mixture(facts, _MIXTURE, s.hidden, s.layers)
    plain = layers_of(facts, s, ffns, _slides, window)
    value = facts.integer("v_head_dim")
    layers = tuple(_layer(layer, s, value) for layer in plain)
    slide = sum(layer.kind == "sliding_attention" for layer in layers)
    weights = [
        *embedding(s.vocab, s.hidden),
        *_attention(facts, s, s.kv_heads, s.layers - slide),
        *_attention(facts, s, 2 * s.kv_heads, slide),
        *weight("attention", "sinks", s.heads, count=slide),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    return decoder(facts, s, weights, layers)


def _layer(layer: Layer, s: Sizes, value: int) -> Layer:
    slides = layer.kind == "sliding_attention"
    window = layer.cache.window if isinstance(layer.cache, KV) else None
    heads = 2 * s.kv_heads if slides else s.kv_heads
    return replace(layer, cache=KV(heads=heads, key_dim=s.head_dim, value_dim=value, window=window))


def _attention(facts: Facts, s: Sizes, kv_heads: int, count: int) -> list[TensorGroup]:
    bias, value = facts.flag("attention_bias"), facts.integer("v_head_dim")
    return [
        *linear("attention", "q_proj", s.query, s.hidden, count=count, bias=bias),
        *linear("attention", "k_proj", kv_heads * s.head_dim, s.hidden, count=count, bias=bias),
        *linear("attention", "v_proj", kv_heads * value, s.hidden, count=count, bias=bias),
        *linear("attention", "o_proj", s.hidden, s.heads * value, count=count),
    ]
