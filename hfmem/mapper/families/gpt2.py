"""GPT-2 and the decoders with its layout (`wte`, `h`, `ln_f`): GPT-BigCode, GPT-Neo, GPT-J, CodeGen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import (
    Sizes,
    decoder,
    feed_forward,
    fused_attention,
    layers_of,
    separate_attention,
    sizes,
)
from hfmem.mapper.families._heads import Output
from hfmem.mapper.values import Dense, TensorGroup

__all__ = ["read"]

_NAMES = ("q_proj", "k_proj", "v_proj", "out_proj")


def read(facts: Facts) -> Blueprint:
    """Layers and weights, by the type's own reader."""
    return {
        "codegen": _gptj,
        "gpt-sw3": _gpt2,
        "gpt2": _gpt2,
        "gpt_bigcode": _gpt2,
        "gpt_neo": _gpt_neo,
        "gptj": _gptj,
    }[facts.model_type](facts)


def _gpt2(facts: Facts) -> Blueprint:
    """modeling_gpt2.py, whose Conv1D stores (inputs, outputs), and modeling_gpt_bigcode.py."""
    s = _sizes(facts, kv_heads=1 if facts.flag("multi_query") else None)
    inner = facts.integer("n_inner", default=4 * s.hidden)
    weights = [
        *_embeddings(facts, s),
        *fused_attention(s, ("c_attn", "c_proj"), bias=True, out_bias=True),
        *feed_forward((s.hidden, inner), ("c_fc", "c_proj"), count=s.layers, bias=True),
        *norm(s.hidden, count=2 * s.layers + 1, bias=True),
    ]
    crossed = facts.flag("add_cross_attention")
    if crossed:
        weights += _crossing(s)
    if facts.model_type in ("gpt2", "gpt-sw3"):
        weights = [replace(group, shape=group.shape[::-1]) if group.linear else group for group in weights]
    blueprint = decoder(facts, s, weights, layers_of(facts, s, Dense(intermediate=inner, gated=False)))
    return replace(blueprint, groups=None) if crossed and facts.model_type == "gpt_bigcode" else blueprint


def _crossing(s: Sizes) -> list[TensorGroup]:
    """Cross-attention of all layers, each with a norm."""
    return [
        *linear("attention", "crossattention.c_attn", 2 * s.hidden, s.hidden, count=s.layers, bias=True),
        *linear("attention", "crossattention.q_attn", s.hidden, s.hidden, count=s.layers, bias=True),
        *linear("attention", "crossattention.c_proj", s.hidden, s.hidden, count=s.layers, bias=True),
        *norm(s.hidden, count=s.layers, bias=True),
    ]


def _gpt_neo(facts: Facts) -> Blueprint:
    """modeling_gpt_neo.py; local layers attend to `window_size` tokens only, but their cache holds all tokens."""
    s = _sizes(facts)
    inner = facts.integer("intermediate_size", default=4 * s.hidden)
    weights = [
        *_embeddings(facts, s),
        *separate_attention(s, _NAMES, bias=False, out_bias=True),
        *feed_forward((s.hidden, inner), ("c_fc", "c_proj"), count=s.layers, bias=True),
        *norm(s.hidden, count=2 * s.layers + 1, bias=True),
    ]
    return decoder(facts, s, weights, layers_of(facts, s, Dense(intermediate=inner, gated=False)))


def _gptj(facts: Facts) -> Blueprint:
    """modeling_gptj.py and modeling_codegen.py: attention and feed-forward in parallel, after one norm."""
    s = _sizes(facts)
    inner = facts.integer("n_inner", default=4 * s.hidden)
    attention = (
        fused_attention(s, ("qkv_proj", "out_proj"), bias=False, out_bias=False)
        if facts.model_type == "codegen"
        else separate_attention(s, _NAMES, bias=False, out_bias=False)
    )
    weights = [
        *embedding(s.vocab, s.hidden, role="wte"),
        *attention,
        *feed_forward((s.hidden, inner), ("fc_in", "fc_out"), count=s.layers, bias=True),
        *norm(s.hidden, count=s.layers + 1, bias=True),
    ]
    layers = layers_of(facts, s, Dense(intermediate=inner, gated=False))
    return decoder(facts, s, weights, layers, _biased_head(s))


def _sizes(facts: Facts, kv_heads: int | None = None) -> Sizes:
    heads = facts.integer("num_attention_heads")
    return sizes(
        facts,
        kv_heads=heads if kv_heads is None else kv_heads,
        head_dim=facts.integer("hidden_size") // heads,
    )


def _embeddings(facts: Facts, s: Sizes) -> Sequence[TensorGroup]:
    positions = facts.integer("max_position_embeddings")
    return [*embedding(s.vocab, s.hidden, role="wte"), *embedding(positions, s.hidden, role="wpe")]


def _biased_head(s: Sizes) -> Output:
    return Output(width=s.hidden, vocab=s.vocab, tied=s.tied, bias=True)
