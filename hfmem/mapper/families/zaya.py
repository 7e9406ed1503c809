"""ZAYA: compressed convolutional attention (arXiv 2510.04476) and experts in every layer (modeling_zaya.py)."""

from __future__ import annotations

from typing import Final

from hfmem.mapper.blueprint import Blueprint, embedding, experts, linear, norm, weight
from hfmem.mapper.caches import Combined, State
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, sizes
from hfmem.mapper.families._heads import Output
from hfmem.mapper.families._states import Keeps, kept_kv, kinds_of, layers_with
from hfmem.mapper.values import Experts, TensorGroup

__all__ = ["read"]

_KINDS: Final = ("hybrid", "hybrid_sliding")


def read(facts: Facts) -> Blueprint:
    """Layers and weights.

    Besides keys and values, a layer caches the states of two convolutions of queries and keys, and the last token's
    half of the values that is delayed by one token.
    """
    s = sizes(facts)
    kinds = kinds_of(facts, ("hybrid",) * s.layers, _KINDS)
    mixed = Experts(
        count=facts.integer("num_experts"),
        per_token=facts.integer("num_experts_per_tok"),
        intermediate=facts.integer("moe_intermediate_size"),
    )
    weights = [
        *embedding(s.vocab, s.hidden),
        *_attention(facts, s),
        *_router(s, mixed.count, facts.integer("router_hidden_size")),
        *experts("gate_up_proj", mixed.count, mixed.per_token, 2 * mixed.intermediate, s.hidden, layers=s.layers),
        *experts("down_proj", mixed.count, mixed.per_token, s.hidden, mixed.intermediate, layers=s.layers),
        *weight("other", "residual_scale", s.hidden, count=8 * s.layers + 2),
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    # earlier tokens that the two causal convolutions over queries and keys need together
    seen = facts.integer("cca_time0") - 1 + facts.integer("cca_time1") - 1
    state = State(conv=(s.query + s.kv) * seen, recurrent=s.kv // 2)
    windows = {"hybrid": None, "hybrid_sliding": facts.optional_integer("sliding_window")}
    keeps = {
        kind: Keeps(cache=Combined(caches=(kept_kv(s, window).cache, state)), heads=s.heads)
        for kind, window in windows.items()
    }
    out = Output(width=s.hidden, vocab=s.vocab, tied=s.tied, bias=facts.flag("lm_head_bias"))
    return decoder(facts, s, weights, layers_with(facts, kinds, keeps, [mixed] * s.layers), out)


def _attention(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """Projections (values in two halves), a depthwise convolution and one per head, and a key temperature per head."""
    bias, channels = facts.flag("attention_bias"), s.query + s.kv
    return [
        *linear("attention", "q_proj", s.query, s.hidden, count=s.layers, bias=bias),
        *linear("attention", "k_proj", s.kv, s.hidden, count=s.layers, bias=bias),
        *linear("attention", "v_proj", s.kv // 2, s.hidden, count=2 * s.layers, bias=bias),
        *linear("attention", "o_proj", s.hidden, s.query, count=s.layers, bias=bias),
        *weight("attention", "conv_qk_depthwise", channels, 1, facts.integer("cca_time0"), count=s.layers),
        *weight("attention", "conv_qk_grouped", channels, s.head_dim, facts.integer("cca_time1"), count=s.layers),
        *weight("attention", "conv_qk.bias", channels, count=2 * s.layers),
        *weight("attention", "qk_norm.temp", s.kv_heads, count=s.layers),
    ]


def _router(s: Sizes, count: int, width: int) -> list[TensorGroup]:
    """The router: a small network that scores the experts and a skip option. All but the first also use the previous
    layer's router state."""
    return [
        *weight("router", "down_proj", width, s.hidden, count=s.layers),
        *weight("router", "fc", width, width, count=2 * s.layers),
        *weight("router", "bias", width, count=3 * s.layers),
        *weight("router", "out_proj", count + 1, width, count=s.layers),
        *weight("router", "norm", width, count=s.layers),
        *weight("router", "router_states_scale", width, count=max(0, s.layers - 1)),
    ]
