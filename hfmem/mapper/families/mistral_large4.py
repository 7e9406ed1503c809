"""Mistral Large 4: latent attention with an indexer; some layers have no positions (NoPE), and some share an earlier
layer's latent (configuration_mistral_large4.py, modeling_mistral_large4.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm, weight
from hfmem.mapper.caches import Cache, Combined, Indexed, Nothing
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder
from hfmem.mapper.families._mixture import DEEPSEEK, by_type, mixture
from hfmem.mapper.families.deepseek import latent_cache, latent_sizes, shared_indexers
from hfmem.mapper.values import Ffn, Layer, TensorGroup

__all__ = ["read"]


_MIXED: Final = replace(DEEPSEEK, sparse=by_type(DEEPSEEK.sparse))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attention:
    """One layer's attention: whether it has rotary positions, a latent of its own, and an indexer of its own."""

    rotary: bool
    own: bool
    indexed: bool


def read(facts: Facts) -> Blueprint:
    """Layers and weights."""
    s = latent_sizes(facts)
    attention = _attention(facts, s.layers)
    ffns, networks = mixture(facts, _MIXED, s.hidden, s.layers)
    weights = [
        *embedding(s.vocab, s.hidden),
        *(group for one in dict.fromkeys(attention) for group in _weights(facts, s, one, attention.count(one))),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 1),
        *weight("other", "rotary_emb.alpha", facts.integer("qk_rope_head_dim") // 2),  # scales the frequencies
    ]
    layers = tuple(_layer(facts, s, one, ffn) for one, ffn in zip(attention, ffns, strict=True))
    return decoder(facts, s, weights, layers)


def _attention(facts: Facts, layers: int) -> list[_Attention]:
    """Attention of each layer. Without lists in the file, every fourth layer is NoPE, and all have their own latent."""
    interval = facts.integer("no_rope_layer_interval", default=4)
    rotary = _listed(facts, "no_rope_layers", [int((index + 1) % interval != 0) for index in range(layers)])
    sources = _listed(facts, "kv_source_layers", list(range(layers)))
    indexed = shared_indexers(facts, layers)
    if len(sources) != layers or len(rotary) < layers:
        raise InvalidConfigError("", f"no_rope_layers or kv_source_layers is too short for {layers} layers")
    return [
        _Attention(rotary=bool(rotary[index]), own=sources[index] == index, indexed=indexed[index])
        for index in range(layers)
    ]


def _listed(facts: Facts, key: str, default: Sequence[int]) -> Sequence[int]:
    return facts.integers(key) if facts.has(key) else default


def _layer(facts: Facts, s: Sizes, one: _Attention, ffn: Ffn) -> Layer:
    cache = _cache(facts, s, one)
    kind = "shared" if isinstance(cache, Nothing) else "indexed_attention"
    return Layer(kind=kind, cache=cache, heads=s.heads, ffn=ffn)


def _cache(facts: Facts, s: Sizes, one: _Attention) -> Cache:
    """The cache of a layer. One that shares another's latent may still cache its own indexer's keys."""
    latent = latent_cache(facts if one.rotary else facts.changed(qk_rope_head_dim=0), s)
    if not one.indexed:
        return latent if one.own else Nothing()
    kept: Cache = latent if one.own else Combined(caches=())
    return Indexed(attention=kept, index_dim=facts.integer("index_head_dim"))


def _weights(facts: Facts, s: Sizes, one: _Attention, count: int) -> list[TensorGroup]:
    """Attention of `count` layers of one kind. In NoPE layers, the rope part of the keys is projected from the latent
    too."""
    rank, rope = facts.integer("kv_lora_rank"), facts.integer("qk_rope_head_dim") if one.rotary else 0
    value, bias = facts.integer("v_head_dim"), facts.flag("attention_bias")
    own = count if one.own else 0
    return [
        *linear("attention", "q_proj", s.query, s.hidden, count=count),
        *linear("attention", "kv_a_proj_with_mqa", rank + rope, s.hidden, count=own, bias=bias),
        *norm(rank, count=own, role="kv_a_layernorm"),
        *linear("attention", "kv_b_proj", s.heads * (s.head_dim - rope + value), rank, count=count),
        *linear("attention", "o_proj", s.hidden, s.heads * value, count=count, bias=bias),
        *weight("attention", "softmax_scaling", s.heads, count=2 * count),
        *_indexers(facts, s, count if one.indexed else 0),
    ]


def _indexers(facts: Facts, s: Sizes, count: int) -> list[TensorGroup]:
    """`count` indexers (MistralLarge4TextIndexer), with only the hidden states as input."""
    size, heads = facts.integer("index_head_dim"), facts.integer("index_n_heads")
    return [
        *linear("attention", "indexer.wq_b", heads * size, s.hidden, count=count),
        *linear("attention", "indexer.wk", size, s.hidden, count=count),
        *norm(size, count=count, bias=True, role="indexer.k_norm"),
        *linear("attention", "indexer.weights_proj", heads, s.hidden, count=count),
        *norm(s.hidden, count=count, bias=True, role="indexer.q_input_norm"),
        *weight("attention", "indexer.softmax_scaling", heads, count=2 * count),
    ]
