"""MiniMax-Text-01 and M1: layers of lightning and softmax attention, all with experts (modeling_minimax.py)."""

from __future__ import annotations

from typing import Final

from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm
from hfmem.mapper.caches import State
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, separate_attention, sizes
from hfmem.mapper.families._mixture import Mixture, mixture
from hfmem.mapper.families._states import Keeps, attention_of, kept_kv, kinds_of, layers_with
from hfmem.mapper.values import TensorGroup

__all__ = ["read"]

_KINDS: Final = ("full_attention", "linear_attention")


def read(facts: Facts) -> Blueprint:
    """Layers and weights. The linear layers' state has the dtype of the model (`MiniMaxCache`)."""
    s = sizes(facts)
    kinds = kinds_of(facts, [_KINDS[index % 2] for index in range(s.layers)], _KINDS)
    ffns, networks = mixture(facts, Mixture(), s.hidden, s.layers)
    weights = [
        *embedding(s.vocab, s.hidden),
        *separate_attention(attention_of(s, kinds), bias=False, out_bias=False),
        *_lightning(s, kinds.count("linear_attention")),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    state = State(recurrent=s.heads * s.head_dim * s.head_dim)
    keeps = {"full_attention": kept_kv(s), "linear_attention": Keeps(cache=state)}
    return decoder(facts, s, weights, layers_with(facts, kinds, keeps, ffns))


def _lightning(s: Sizes, count: int) -> list[TensorGroup]:
    return [
        *linear("state", "qkv_proj", 3 * s.query, s.hidden, count=count),
        *linear("state", "output_gate", s.query, s.hidden, count=count),
        *linear("state", "out_proj", s.hidden, s.query, count=count),
        *norm(s.query, count=count),
    ]
