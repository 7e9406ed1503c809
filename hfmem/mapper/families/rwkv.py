"""RWKV-4: a recurrence in place of attention (modeling_rwkv.py)."""

from __future__ import annotations

from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm, weight
from hfmem.mapper.caches import State
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder
from hfmem.mapper.families._heads import Output
from hfmem.mapper.families._states import Keeps, layers_with, unattended, without_attention
from hfmem.mapper.values import Dense, TensorGroup

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers and weights.

    A layer's state holds the last token's input of time mixing and of channel mixing, for the token shift, and three
    float32 numbers per channel of the recurrence (`RwkvModel.forward`).
    """
    hidden = facts.integer("hidden_size")
    s = unattended(facts, hidden)
    width = facts.integer("attention_hidden_size", default=hidden)
    units = facts.integer("intermediate_size", default=4 * hidden)
    weights = [
        *embedding(s.vocab, hidden, role="embeddings"),
        *_time_mixing(s, width),
        *_channel_mixing(s, units),
        # two per layer, one more in the first layer (`pre_ln`), and the final norm
        *norm(hidden, count=2 * s.layers + min(1, s.layers) + 1, bias=True),
    ]
    # the last token's inputs of time mixing and channel mixing; numerator, denominator and maximum of the recurrence
    state = State(conv=2 * hidden, recurrent=3 * width, recurrent_dtype="float32")
    keeps = {"linear_attention": Keeps(cache=state)}
    network = Dense(intermediate=units, gated=False)
    layers = layers_with(facts, ("linear_attention",) * s.layers, keeps, network)
    out = Output(width=hidden, vocab=s.vocab, tied=s.tied, role="head")
    return without_attention(decoder(facts, s, weights, layers, out))


def _time_mixing(s: Sizes, width: int) -> list[TensorGroup]:
    return [
        *weight("state", "time_decay", width, count=s.layers),
        *weight("state", "time_first", width, count=s.layers),
        *weight("state", "time_mix", 1, 1, s.hidden, count=3 * s.layers),
        *linear("state", "key", width, s.hidden, count=s.layers),
        *linear("state", "value", width, s.hidden, count=s.layers),
        *linear("state", "receptance", width, s.hidden, count=s.layers),
        *linear("state", "output", s.hidden, width, count=s.layers),
    ]


def _channel_mixing(s: Sizes, units: int) -> list[TensorGroup]:
    return [
        *weight("mlp", "time_mix", 1, 1, s.hidden, count=2 * s.layers),
        *linear("mlp", "key", units, s.hidden, count=s.layers),
        *linear("mlp", "receptance", s.hidden, s.hidden, count=s.layers),
        *linear("mlp", "value", s.hidden, units, count=s.layers),
    ]
