"""Llama 3.2 Vision's text model: some layers have cross-attention to image tokens only (modeling_mllama.py)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from hfmem.mapper.blueprint import Blueprint, embedding, norm, weight
from hfmem.mapper.caches import KV, CrossKV
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, separate_attention, sizes
from hfmem.mapper.families._dialect import GATED
from hfmem.mapper.families._heads import Output
from hfmem.mapper.values import Dense, Layer, TensorGroup

__all__ = ["read"]

# The class's default `cross_attention_layers`.
_CROSS: Final = (3, 8, 13, 18, 23, 28, 33, 38)

# Embedding rows beyond the vocabulary, for the image token and other special tokens.
_EXTRA_ROWS: Final = 8


def read(facts: Facts) -> Blueprint:
    """Layers and weights. Without images, cross-attention layers are skipped and cache nothing."""
    s, intermediate = sizes(facts), facts.integer("intermediate_size")
    listed = facts.items("cross_attention_layers")
    cross = set(_CROSS if listed is None else listed)
    crossing = [index in cross for index in range(s.layers)]
    weights = [
        *embedding(s.vocab + _EXTRA_ROWS, s.hidden),
        *separate_attention(s, bias=False, out_bias=False),
        *feed_forward((s.hidden, intermediate), GATED, count=s.layers),
        *norm(s.hidden, count=2 * s.layers + 1),
        *_cross_only(s, crossing.count(True)),
    ]
    output = Output(width=s.hidden, vocab=s.vocab, tied=False)  # the embedding has more rows than the head
    blueprint = decoder(facts, s, weights, tuple(_layers(s, intermediate, crossing)), output)
    return replace(blueprint, architecture=replace(blueprint.architecture, source="images"))


def _cross_only(s: Sizes, count: int) -> list[TensorGroup]:
    """Q and k norms, and gates of attention and of the MLP."""
    # self-attention layers have neither
    return norm(s.head_dim, count=2 * count, role="qk_norm") + weight("attention", "gate", 1, count=2 * count)


def _layers(s: Sizes, intermediate: int, crossing: Iterable[bool]) -> Iterable[Layer]:
    text = KV(heads=s.kv_heads, key_dim=s.head_dim, value_dim=s.head_dim)
    image = CrossKV(heads=s.kv_heads, key_dim=s.head_dim, value_dim=s.head_dim)
    ffn = Dense(intermediate=intermediate, gated=True)
    for crosses in crossing:
        kind = "cross_attention" if crosses else "full_attention"
        yield Layer(kind=kind, cache=image if crosses else text, heads=s.heads, ffn=ffn)
