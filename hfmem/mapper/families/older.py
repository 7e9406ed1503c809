"""Older decoders with a plain KV cache: CTRL, XGLM, BioGPT, GPT-NeoX Japanese; CPM-Ant, which also caches its prompt;
and the first GPT, whose class has no cache (`modeling_<type>.py`)."""

from __future__ import annotations

from dataclasses import replace

from hfmem.mapper.blueprint import Blueprint, embedding, norm, weight
from hfmem.mapper.caches import KV, Nothing
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import (
    Sizes,
    decoder,
    feed_forward,
    fused_attention,
    layers_of,
    never,
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
        "biogpt": _biogpt,
        "cpmant": _cpmant,
        "ctrl": _ctrl,
        "gpt_neox_japanese": _gpt_neox_japanese,
        "openai-gpt": _openai_gpt,
        "xglm": _xglm,
    }[facts.model_type](facts)


def _biogpt(facts: Facts) -> Blueprint:
    """Learned positions, with two rows more than `max_position_embeddings`."""
    s = _sizes(facts)
    positions = embedding(facts.integer("max_position_embeddings") + 2, s.hidden, role="embed_positions")
    return _like_opt(facts, s, facts.integer("intermediate_size"), positions)


def _xglm(facts: Facts) -> Blueprint:
    """Sinusoidal positions, which are not parameters; optional cross-attention."""
    s = _sizes(facts)
    crossing: list[TensorGroup] = []
    if facts.flag("add_cross_attention"):
        crossing = separate_attention(s, _NAMES, bias=True, out_bias=True) + norm(s.hidden, count=s.layers, bias=True)
    return _like_opt(facts, s, facts.integer("ffn_dim"), crossing)


def _like_opt(facts: Facts, s: Sizes, inner: int, more: list[TensorGroup]) -> Blueprint:
    weights = [
        *embedding(s.vocab, s.hidden),
        *more,
        *separate_attention(s, _NAMES, bias=True, out_bias=True),
        *feed_forward((s.hidden, inner), ("fc1", "fc2"), count=s.layers, bias=True),
        *norm(s.hidden, count=2 * s.layers + 1, bias=True),
    ]
    return _decoder(facts, s, inner, weights)


def _ctrl(facts: Facts) -> Blueprint:
    """The head has a bias."""
    s, inner = _sizes(facts), facts.integer("dff")
    weights = [
        *embedding(s.vocab, s.hidden, role="w"),
        *separate_attention(s, ("Wq", "Wk", "Wv", "dense"), bias=True, out_bias=True),
        *feed_forward((s.hidden, inner), ("ffn.0", "ffn.2"), count=s.layers, bias=True),
        *norm(s.hidden, count=2 * s.layers + 1, bias=True),
    ]
    return _decoder(facts, s, inner, weights, Output(width=s.hidden, vocab=s.vocab, tied=s.tied, bias=True))


def _gpt_neox_japanese(facts: Facts) -> Blueprint:
    """Only the last layer's attention output has a bias."""
    s = _sizes(facts)
    inner = facts.integer("intermediate_multiple_size") * s.hidden
    weights = [
        *embedding(s.vocab, s.hidden, role="embed_in"),
        *fused_attention(s, ("query_key_value", "dense"), bias=False, out_bias=False),
        *weight("attention", "dense_bias", s.hidden, count=min(1, s.layers)),  # only the last layer has it
        *feed_forward((s.hidden, inner), ("dense_h_to_4h", "dense_4h_to_h"), count=s.layers),
        *norm(s.hidden, count=2 * s.layers + 1, bias=True),
    ]
    return _decoder(facts, s, inner, weights)


def _openai_gpt(facts: Facts) -> Blueprint:
    """Post-norm layers without a final norm; Conv1D weights have shape (inputs, outputs)."""
    s = _sizes(facts)
    inner = 4 * s.hidden
    weights = [
        *embedding(s.vocab, s.hidden, role="tokens_embed"),
        *embedding(facts.integer("max_position_embeddings"), s.hidden, role="positions_embed"),
        *fused_attention(s, ("c_attn", "c_proj"), bias=True, out_bias=True),
        *feed_forward((s.hidden, inner), ("c_fc", "c_proj"), count=s.layers, bias=True),
        *norm(s.hidden, count=2 * s.layers, bias=True),
    ]
    turned = [replace(group, shape=group.shape[::-1]) if group.linear else group for group in weights]
    blueprint = _decoder(facts, s, inner, turned)
    layers = tuple(replace(layer, kind="none", cache=Nothing()) for layer in blueprint.architecture.layers or ())
    return replace(blueprint, architecture=replace(blueprint.architecture, layers=layers))


def _cpmant(facts: Facts) -> Blueprint:
    """Learned prompts, one of which precedes every text; attention biases by distance and by pair of segments; an
    untied head."""
    s = replace(sizes(facts, head_dim=facts.integer("dim_head")), tied=False)
    inner, prompt, segments = facts.integer("dim_ff"), facts.integer("prompt_length"), facts.integer("segment_types")
    weights = [
        *embedding(s.vocab + facts.integer("prompt_types") * prompt, s.hidden, role="input_embedding"),
        *embedding(segments, s.hidden, role="segment_embedding"),
        *weight("attention", "position_bias", segments**2 + facts.integer("position_bias_num_buckets"), s.heads),
        *separate_attention(s, ("project_q", "project_k", "project_v", "attention_out"), bias=False, out_bias=False),
        *feed_forward((s.hidden, inner), ("w_0", "w_1", "w_out"), count=s.layers),
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    cache = KV(heads=s.kv_heads, key_dim=s.head_dim, value_dim=s.head_dim, prompt=prompt)
    layers = layers_of(facts, s, Dense(intermediate=inner, gated=True), never)
    return decoder(facts, s, weights, tuple(replace(layer, cache=cache) for layer in layers))


def _sizes(facts: Facts) -> Sizes:
    heads = facts.integer("num_attention_heads")
    return sizes(facts, kv_heads=heads, head_dim=facts.integer("hidden_size") // heads)


def _decoder(facts: Facts, s: Sizes, inner: int, weights: list[TensorGroup], out: Output | None = None) -> Blueprint:
    return decoder(facts, s, weights, layers_of(facts, s, Dense(intermediate=inner, gated=False), never), out)
