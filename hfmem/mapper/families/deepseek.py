"""DeepSeek-V2 and -V3: multi-head latent attention, and a mixture of experts after the first layers."""

from __future__ import annotations

from dataclasses import replace

from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm
from hfmem.mapper.caches import Latent
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, sizes
from hfmem.mapper.families._mixture import DEEPSEEK, mixture
from hfmem.mapper.values import Layer, TensorGroup

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Weights (modeling_deepseek_v2.py, modeling_deepseek_v3.py). The cache of transformers 5.23 keeps the latent."""
    head_dim = facts.integer("qk_nope_head_dim") + facts.integer("qk_rope_head_dim")
    s = sizes(facts, head_dim=head_dim)
    mixed = replace(DEEPSEEK, mlp_bias="mlp_bias" if facts.model_type == "deepseek_v2" else False)
    ffns, networks = mixture(facts, mixed, s.hidden, s.layers)
    weights = [
        *embedding(s.vocab, s.hidden),
        *_attention(facts, s),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    cache = Latent(
        rank=facts.integer("kv_lora_rank"),
        rope_dim=facts.integer("qk_rope_head_dim"),
        heads=s.heads,
        key_dim=s.head_dim,
        value_dim=facts.integer("v_head_dim"),
    )
    layers = tuple(Layer(kind="full_attention", cache=cache, heads=s.heads, ffn=ffn) for ffn in ffns)
    return decoder(facts, s, weights, layers)


def _attention(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """Queries through a low rank where there is one, keys and values through the latent, and the output."""
    rank, rope = facts.integer("kv_lora_rank"), facts.integer("qk_rope_head_dim")
    value = facts.integer("v_head_dim")
    expanded = s.heads * (facts.integer("qk_nope_head_dim") + value)
    bias = facts.flag("attention_bias")
    return [
        *_queries(facts, s, bias),
        *linear("attention", "kv_a_proj_with_mqa", rank + rope, s.hidden, count=s.layers, bias=bias),
        *norm(rank, count=s.layers, role="kv_a_layernorm"),
        *linear("attention", "kv_b_proj", expanded, rank, count=s.layers),
        *linear("attention", "o_proj", s.hidden, s.heads * value, count=s.layers, bias=bias),
    ]


def _queries(facts: Facts, s: Sizes, bias: bool) -> list[TensorGroup]:
    rank = facts.optional_integer("q_lora_rank")
    if rank is None:
        return linear("attention", "q_proj", s.query, s.hidden, count=s.layers)
    return [
        *linear("attention", "q_a_proj", rank, s.hidden, count=s.layers, bias=bias),
        *norm(rank, count=s.layers, role="q_a_layernorm"),
        *linear("attention", "q_b_proj", s.query, rank, count=s.layers),
    ]
