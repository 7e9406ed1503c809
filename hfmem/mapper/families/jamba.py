"""Jamba: Mamba layers, with attention in every eighth and experts in every second layer (modeling_jamba.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hfmem.mapper.blueprint import Blueprint, embedding, norm
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import decoder, separate_attention, sizes
from hfmem.mapper.families._mixture import Mixture, mixture
from hfmem.mapper.families._states import Keeps, attention_of, kept_kv, layers_with, mamba_of

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers and weights."""
    s = sizes(facts)
    period, offset = facts.integer("attn_layer_period"), facts.integer("attn_layer_offset")
    kinds = ["full_attention" if i % period == offset else "linear_attention" for i in range(s.layers)]
    ffns, networks = mixture(facts, Mixture(count="num_experts", sparse=_each_period), s.hidden, s.layers)
    mixer = replace(mamba_of(facts, s.hidden), norms=True)
    weights = [
        *embedding(s.vocab, s.hidden),
        *separate_attention(attention_of(s, kinds), bias=False, out_bias=False),
        *mixer.weights(kinds.count("linear_attention")),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    keeps = {"full_attention": kept_kv(s), "linear_attention": Keeps(cache=mixer.cache)}
    return decoder(facts, s, weights, layers_with(facts, kinds, keeps, ffns))


def _each_period(facts: Facts, layers: int) -> Sequence[bool]:
    """Every `expert_layer_period`-th layer, starting at the offset; a single expert is a dense network."""
    period, offset = facts.integer("expert_layer_period"), facts.integer("expert_layer_offset")
    return [facts.integer("num_experts") > 1 and i % period == offset for i in range(layers)]
