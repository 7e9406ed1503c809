"""Decoders with a fused query/key/value projection and LayerNorm: GPT-NeoX, BLOOM, MPT, Falcon."""

from __future__ import annotations

from dataclasses import replace

from hfmem.mapper.blueprint import Blueprint, embedding, norm
from hfmem.mapper.caches import KV
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, fused_attention, layers_of, sizes
from hfmem.mapper.values import Dense, TensorGroup

__all__ = ["read"]

_ATTENTION = ("query_key_value", "dense")
_MLP = ("dense_h_to_4h", "dense_4h_to_h")

# Types whose config class accepts `n_embed` as the hidden size (configuration_bloom.py, configuration_falcon.py).
_OLD_SPELLING = ("bloom", "falcon")


def read(facts: Facts) -> Blueprint:
    """Layers and weights, by the type's own reader."""
    return {"bloom": _bloom, "falcon": _falcon, "gpt_neox": _gpt_neox, "mpt": _mpt}[facts.model_type](facts)


def _gpt_neox(facts: Facts) -> Blueprint:
    """modeling_gpt_neox.py."""
    s = _sizes(facts)
    inner = facts.integer("intermediate_size")
    bias = facts.flag("attention_bias")
    return _decoder(
        facts,
        s,
        inner,
        [
            *embedding(s.vocab, s.hidden, role="embed_in"),
            *fused_attention(s, _ATTENTION, bias=bias, out_bias=bias),
            *feed_forward((s.hidden, inner), _MLP, count=s.layers, bias=True),
            *norm(s.hidden, count=2 * s.layers + 1, bias=True),
        ],
    )


def _bloom(facts: Facts) -> Blueprint:
    """modeling_bloom.py: ALiBi, and a norm after the embedding."""
    s = _sizes(facts)
    return _decoder(
        facts,
        s,
        4 * s.hidden,
        [
            *embedding(s.vocab, s.hidden, role="word_embeddings"),
            *fused_attention(s, _ATTENTION, bias=True, out_bias=True),
            *feed_forward((s.hidden, 4 * s.hidden), _MLP, count=s.layers, bias=True),
            *norm(s.hidden, count=2 * s.layers + 2, bias=True),  # + 2: after the embedding, and the final norm
        ],
    )


def _mpt(facts: Facts) -> Blueprint:
    """modeling_mpt.py: ALiBi, no biases; the intermediate size is always 4 × the hidden size."""
    s = _sizes(facts)
    return _decoder(
        facts,
        s,
        4 * s.hidden,
        [
            *embedding(s.vocab, s.hidden, role="wte"),
            *fused_attention(s, ("Wqkv", "out_proj"), bias=False, out_bias=False),
            *feed_forward((s.hidden, 4 * s.hidden), ("up_proj", "down_proj"), count=s.layers),
            *norm(s.hidden, count=2 * s.layers + 1),
        ],
    )


def _falcon(facts: Facts) -> Blueprint:
    """modeling_falcon.py. KV heads: one in the 7B (multi-query); `num_kv_heads` in the 40B and 180B
    (`new_decoder_architecture`), which also have a norm for each of the two parallel branches; as many as query heads
    in the RW models."""
    grouped = facts.flag("new_decoder_architecture")
    heads = facts.integer("num_attention_heads")
    kv_heads = facts.integer("num_kv_heads", default=heads)
    s = _sizes(facts, kv_heads if grouped else 1 if facts.flag("multi_query") else heads)
    inner = facts.integer("ffn_hidden_size", default=4 * s.hidden)
    bias = facts.flag("bias")
    separate = facts.integer("num_ln_in_parallel_attn", default=2 if grouped else 1) == 2
    norms = 2 if separate or not facts.flag("parallel_attn") else 1
    blueprint = _decoder(
        facts,
        s,
        inner,
        [
            *embedding(s.vocab, s.hidden, role="word_embeddings"),
            *fused_attention(s, _ATTENTION, bias=bias, out_bias=bias),
            *feed_forward((s.hidden, inner), _MLP, count=s.layers, bias=bias),
            *norm(s.hidden, count=norms * s.layers + 1, bias=True),
        ],
    )
    return _repeated(blueprint, s) if grouped and s.kv_heads < s.heads else blueprint


def _repeated(blueprint: Blueprint, s: Sizes) -> Blueprint:
    """The cache of Falcon's new architecture: `_split_heads` repeats keys and values for every query head before they
    are cached."""
    cache = KV(heads=s.heads, key_dim=s.head_dim, value_dim=s.head_dim)
    note = (
        f"The cache of transformers stores Falcon's keys and values for each of the {s.heads} query heads, although "
        f"the model has only {s.kv_heads} KV heads."
    )
    layers = tuple(replace(layer, cache=cache) for layer in blueprint.architecture.layers or ())
    return replace(blueprint, architecture=replace(blueprint.architecture, layers=layers, notes=(note,)))


def _sizes(facts: Facts, kv_heads: int | None = None) -> Sizes:
    heads = facts.integer("num_attention_heads")
    hidden = facts.integer("n_embed", "hidden_size") if facts.model_type in _OLD_SPELLING else None
    return sizes(
        facts,
        hidden=hidden,
        kv_heads=heads if kv_heads is None else kv_heads,
        head_dim=(facts.integer("hidden_size") if hidden is None else hidden) // heads,
    )


def _decoder(facts: Facts, s: Sizes, inner: int, weights: list[TensorGroup]) -> Blueprint:
    return decoder(facts, s, weights, layers_of(facts, s, Dense(intermediate=inner, gated=False)))
