"""OLMo hybrid: gated delta nets, with attention in every fourth layer (modeling_olmo_hybrid.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hfmem.mapper.blueprint import Blueprint, embedding, norm
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import decoder, feed_forward, separate_attention, sizes
from hfmem.mapper.families._dialect import GATED
from hfmem.mapper.families._states import DeltaNet, Keeps, attention_of, kept_kv, kinds_of, layers_with
from hfmem.mapper.values import Dense

__all__ = ["read"]

_KINDS: Final = ("linear_attention", "full_attention")


def read(facts: Facts) -> Blueprint:
    """Layers and weights."""
    s = sizes(facts)
    kinds = kinds_of(facts, _default(s.layers), _KINDS)
    net = _net(facts, s.hidden, s.heads)
    projections = {
        "q_proj": net.keys,
        "k_proj": net.keys,
        "v_proj": net.values,
        "a_proj": net.value_heads,
        "b_proj": net.value_heads,
        "g_proj": net.values,
    }
    attention = attention_of(s, kinds)
    bias, units = facts.flag("attention_bias"), facts.integer("intermediate_size")
    weights = [
        *embedding(s.vocab, s.hidden),
        *separate_attention(attention, bias=bias, out_bias=bias),
        *norm(s.query, count=attention.layers, role="q_norm"),
        *norm(s.kv, count=attention.layers, role="k_norm"),
        *net.weights(projections, kinds.count("linear_attention"), out="o_proj"),
        *feed_forward((s.hidden, units), GATED, count=s.layers),
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    keeps = {"full_attention": kept_kv(s), "linear_attention": Keeps(cache=net.cache)}
    layers = layers_with(facts, kinds, keeps, [Dense(intermediate=units, gated=True)] * s.layers)
    return decoder(facts, s, weights, layers)


def _default(layers: int) -> Sequence[str]:
    """Attention in every fourth layer; with fewer than four layers, in the last one (configuration_olmo_hybrid.py)."""
    return [
        "full_attention" if i % 4 == 3 or (layers < 4 and i == layers - 1) else "linear_attention"
        for i in range(layers)
    ]


def _net(facts: Facts, hidden: int, heads: int) -> DeltaNet:
    """Defaults: as many heads as attention, all keys together 3/4 of the hidden size, value heads twice as large."""
    key_heads = facts.integer("linear_num_key_heads", default=heads)
    key_dim = facts.integer("linear_key_head_dim", default=int(0.75 * hidden / key_heads))
    return DeltaNet(
        hidden=hidden,
        key_heads=key_heads,
        value_heads=facts.integer("linear_num_value_heads", default=heads),
        key_dim=key_dim,
        value_dim=facts.integer("linear_value_head_dim", default=2 * key_dim),
        kernel=facts.integer("linear_conv_kernel_dim"),
    )
