"""RecurrentGemma (Griffin, arXiv 2402.19427): gated linear recurrences, with local attention in every third layer."""

from __future__ import annotations

from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm, weight
from hfmem.mapper.caches import State
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import decoder, feed_forward, separate_attention, sizes
from hfmem.mapper.families._dialect import GATED
from hfmem.mapper.families._states import Keeps, attention_of, kept_kv, layers_with
from hfmem.mapper.values import Dense, TensorGroup

__all__ = ["read"]

_BLOCKS: Final = {"recurrent": "linear_attention", "attention": "sliding_attention"}


def read(facts: Facts) -> Blueprint:
    """Layers and weights (modeling_recurrent_gemma.py). `block_types` (three by default) repeats over the layers."""
    hidden = facts.integer("hidden_size")
    s = sizes(facts, head_dim=hidden // facts.integer("num_attention_heads"))
    kinds = _kinds(facts, s.layers)
    width, kernel = facts.integer("lru_width", default=hidden), facts.integer("conv1d_width")
    units = facts.integer("intermediate_size") // 2  # the key counts gate and up projection together
    weights = [
        *embedding(s.vocab, hidden),
        *separate_attention(
            attention_of(s, kinds, "sliding_attention"), bias=facts.flag("attention_bias"), out_bias=True
        ),
        *_recurrence(hidden, width, s.heads, count=kinds.count("linear_attention")),
        *_convolution(width, kernel, count=kinds.count("linear_attention")),
        *feed_forward((hidden, units), GATED, count=s.layers, bias=True),
        *norm(hidden, count=2 * s.layers + 1),
    ]
    state = State(conv=width * (kernel - 1), recurrent=width, recurrent_dtype="float32")
    keeps = {
        "linear_attention": Keeps(cache=state),
        "sliding_attention": kept_kv(s, facts.integer("attention_window_size")),
    }
    layers = layers_with(facts, kinds, keeps, Dense(intermediate=units, gated=True))
    return decoder(facts, s, weights, layers)


def _kinds(facts: Facts, layers: int) -> list[str]:
    blocks = facts.items("block_types") or ("recurrent", "recurrent", "attention")
    for block in blocks:
        if block not in _BLOCKS:
            raise InvalidConfigError("", f"block_types has {block!r}, which is not a block type of {facts.model_type}")
    return [_BLOCKS[blocks[index % len(blocks)]] for index in range(layers)]


def _recurrence(hidden: int, width: int, heads: int, *, count: int) -> list[TensorGroup]:
    """Input and output projections, and the recurrence with two block-diagonal gates (one block per head)."""
    block = width // heads
    return [
        *linear("state", "linear_x", width, hidden, count=count, bias=True),
        *linear("state", "linear_y", width, hidden, count=count, bias=True),
        *linear("state", "linear_out", hidden, width, count=count, bias=True),
        *weight("state", "recurrent_param", width, count=count),
        *weight("state", "gate_weight", heads, block, block, count=2 * count),
        *weight("state", "gate_bias", heads, block, count=2 * count),
    ]


def _convolution(width: int, kernel: int, *, count: int) -> list[TensorGroup]:
    return [
        *weight("state", "conv_1d", width, 1, kernel, count=count),
        *weight("state", "conv_1d.bias", width, count=count),
    ]
