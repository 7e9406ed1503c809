"""xLSTM (arXiv 2503.13427): mLSTM layers only (modeling_xlstm.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm
from hfmem.mapper.caches import State
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward
from hfmem.mapper.families._states import Keeps, layers_with, unattended, without_attention
from hfmem.mapper.values import Dense, TensorGroup

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers and weights.

    A head's state is a key_dim × value_dim matrix, a key vector and a scalar, in the model's dtype (`xLSTMCache`) even
    if kernels compute them in another.
    """
    hidden = facts.integer("hidden_size", "embedding_dim")
    facts = facts.changed(num_hidden_layers=facts.integer("num_blocks", "num_hidden_layers"))
    s = replace(unattended(facts, hidden), tied=False)  # the class ignores `tie_word_embeddings`
    heads, bias = facts.integer("num_heads"), facts.flag("use_bias")
    keys = int(hidden * facts.number("qk_dim_factor"))
    values = int(hidden * facts.number("v_dim_factor"))
    multiple = facts.integer("ffn_round_up_to_multiple_of")
    units = multiple * int((hidden * facts.number("ffn_proj_factor") + multiple - 1) // multiple)
    fused = facts.text("weight_mode") == "fused"
    mlp = ("gate_up_proj", "proj_down") if fused else ("proj_up_gate", "proj_up", "proj_down")
    weights = [
        *embedding(s.vocab, facts.integer("embedding_dim", default=hidden), role="embeddings"),
        *_mixer(s, _inputs(keys, values, heads, fused=fused), values, bias=bias),
        *feed_forward((hidden, units), mlp, count=s.layers, bias=bias),
        *norm(hidden, count=2 * s.layers, bias=bias),
        *norm(hidden, role="out_norm"),
    ]
    key, value = keys // heads, values // heads
    keeps = {"linear_attention": Keeps(cache=State(recurrent=heads * (key * value + key + 1)))}
    network = Dense(intermediate=units, gated=True)
    layers = layers_with(facts, ("linear_attention",) * s.layers, keeps, network)
    return without_attention(decoder(facts, s, weights, layers))


def _inputs(keys: int, values: int, heads: int, *, fused: bool) -> Sequence[tuple[str, int, bool]]:
    """Input projections: name, output size, and whether there is a bias even without `use_bias`."""
    if fused:
        return [("qkv_opreact", 2 * keys + 2 * values, False), ("ifgate_preact", 2 * heads, True)]
    return [
        ("q", keys, False),
        ("k", keys, False),
        ("v", values, False),
        ("ogate_preact", values, False),
        ("igate_preact", heads, True),
        ("fgate_preact", heads, True),
    ]


def _mixer(s: Sizes, inputs: Sequence[tuple[str, int, bool]], values: int, *, bias: bool) -> list[TensorGroup]:
    groups = [
        group
        for role, outputs, always in inputs
        for group in linear("state", role, outputs, s.hidden, count=s.layers, bias=bias or always)
    ]
    return [
        *groups,
        *linear("state", "out_proj", s.hidden, values, count=s.layers, bias=bias),
        *norm(values, count=s.layers, bias=bias, role="multihead_norm"),
    ]
