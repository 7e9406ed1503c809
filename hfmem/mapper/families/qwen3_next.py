"""Qwen3-Next and Qwen3.5: gated delta nets, with gated attention in every fourth layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, sizes
from hfmem.mapper.families._dialect import GATED
from hfmem.mapper.families._mixture import Mixture, mixture
from hfmem.mapper.families._states import DeltaNet, Keeps, attention_of, kept_kv, kinds_of, layers_with
from hfmem.mapper.values import Dense, Ffn, TensorGroup

__all__ = ["delta_net", "gated_attention", "projections", "read"]

_KINDS: Final = ("linear_attention", "full_attention")


def read(facts: Facts) -> Blueprint:
    """Layers and weights of a text model (modeling_qwen3_next.py, modeling_qwen3_5.py, modeling_qwen3_5_moe.py)."""
    s = sizes(facts)
    interval = facts.integer("full_attention_interval", default=4)
    default = ["full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(s.layers)]
    kinds = kinds_of(facts, default, _KINDS)
    ffns, networks = _networks(facts, s)
    net = delta_net(facts, s.hidden)
    weights = [
        *embedding(s.vocab, s.hidden),
        *gated_attention(attention_of(s, kinds), bias=facts.flag("attention_bias")),
        *net.weights(projections(facts, net), kinds.count("linear_attention")),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    keeps = {"full_attention": kept_kv(s), "linear_attention": Keeps(cache=net.cache, mixer=net.mixer)}
    return decoder(facts, s, weights, layers_with(facts, kinds, keeps, ffns))


def gated_attention(s: Sizes, *, bias: bool) -> list[TensorGroup]:
    """Projections of queries (with an output gate of the same size), keys, values and output, and q and k norms."""
    return [
        *linear("attention", "q_proj", 2 * s.query, s.hidden, count=s.layers, bias=bias),  # queries and output gates
        *linear("attention", "k_proj", s.kv, s.hidden, count=s.layers, bias=bias),
        *linear("attention", "v_proj", s.kv, s.hidden, count=s.layers, bias=bias),
        *linear("attention", "o_proj", s.hidden, s.query, count=s.layers, bias=bias),
        *norm(s.head_dim, count=2 * s.layers, role="qk_norm"),
    ]


def delta_net(facts: Facts, hidden: int) -> DeltaNet:
    """The sizes of the gated delta net."""
    return DeltaNet(
        hidden=hidden,
        key_heads=facts.integer("linear_num_key_heads"),
        value_heads=facts.integer("linear_num_value_heads"),
        key_dim=facts.integer("linear_key_head_dim"),
        value_dim=facts.integer("linear_value_head_dim"),
        kernel=facts.integer("linear_conv_kernel_dim"),
    )


def projections(facts: Facts, net: DeltaNet) -> dict[str, int]:
    """Input projections with their output sizes: q, k, v, the output gate z, and b and a per head. Qwen3-Next fuses
    them into two matrices, Qwen3.5 into four."""
    if facts.model_type == "qwen3_next":
        return {"in_proj_qkvz": 2 * net.keys + 2 * net.values, "in_proj_ba": 2 * net.value_heads}
    return {
        "in_proj_qkv": 2 * net.keys + net.values,
        "in_proj_z": net.values,
        "in_proj_b": net.value_heads,
        "in_proj_a": net.value_heads,
    }


def _networks(facts: Facts, s: Sizes) -> tuple[Sequence[Ffn], list[TensorGroup]]:
    if facts.model_type == "qwen3_5_text":
        units = facts.integer("intermediate_size")
        network = Dense(intermediate=units, gated=True)
        return [network] * s.layers, feed_forward((s.hidden, units), GATED, count=s.layers)
    mixed = Mixture(
        intermediate="moe_intermediate_size",
        count="num_experts",
        shared=lambda facts: facts.integer("shared_expert_intermediate_size"),
        shared_gate=True,
    )
    if facts.model_type == "qwen3_next":
        mixed = replace(mixed, sparse=_each_step)
    return mixture(facts, mixed, s.hidden, s.layers)


def _each_step(facts: Facts, layers: int) -> Sequence[bool]:
    """Every `decoder_sparse_step`-th layer, except `mlp_only_layers`."""
    step, dense = facts.integer("decoder_sparse_step"), facts.items("mlp_only_layers") or ()
    return [index not in dense and (index + 1) % step == 0 for index in range(layers)]
