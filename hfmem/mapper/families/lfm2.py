"""LFM2 and LFM3: layers with gated short convolutions, and some with attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hfmem.mapper.blueprint import Blueprint, embedding, experts, linear, norm, router, weight
from hfmem.mapper.caches import State
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, separate_attention, sizes
from hfmem.mapper.families._states import Keeps, attention_of, kept_kv, kinds_of, layers_with
from hfmem.mapper.values import Dense, Experts, Ffn, TensorGroup

__all__ = ["read"]

_KINDS: Final = ("conv", "full_attention", "sliding_attention")
_ATTENTION: Final = _KINDS[1:]
_MLP: Final = ("w1", "w3", "w2")


def read(facts: Facts) -> Blueprint:
    """Layers and weights (modeling_lfm2.py, modeling_lfm2_moe.py, modeling_lfm3.py)."""
    s = replace(sizes(facts), tied=facts.flag("tie_embedding", "tie_word_embeddings"))
    third = facts.model_type == "lfm3"
    kinds = kinds_of(facts, _default(facts, s.layers), _KINDS if third else _KINDS[:2])
    kernel = facts.integer("conv_L_cache")
    ffns, networks = _networks(facts, s)
    norms = 4 if third and facts.flag("use_sandwich_norm") else 2  # sandwich: also after attention and after the MLP
    weights = [
        *embedding(s.vocab, s.hidden),
        *_attention(facts, attention_of(s, kinds, *_ATTENTION)),
        *_convolution(s.hidden, kernel, kinds.count("conv"), bias=facts.flag("conv_bias")),
        *networks,
        *norm(s.hidden, count=norms * s.layers + 1),
    ]
    keeps = {
        "conv": Keeps(cache=State(conv=s.hidden * kernel)),
        "full_attention": kept_kv(s),
        "sliding_attention": kept_kv(s, facts.optional_integer("sliding_window")),
    }
    return decoder(facts, s, weights, layers_with(facts, kinds, keeps, ffns))


def _default(facts: Facts, layers: int) -> Sequence[str]:
    """The kinds of layers without `layer_types` (configuration_lfm2.py, configuration_lfm3.py).

    Raises:
        MissingFactError: LFM2-MoE, whose config class has no default.
    """
    if facts.items("layer_types") is not None:
        return ()
    if facts.model_type == "lfm2_moe":
        raise MissingFactError("layer_types")
    if facts.model_type == "lfm3":
        cycle = ("sliding_attention", "conv", "full_attention", "conv")
        return [cycle[index % 4] if index else "conv" for index in range(layers)]
    attention = facts.items("full_attn_idxs")
    return ["full_attention" if attention is None or i in attention else "conv" for i in range(layers)]


def _attention(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """Attention with q and k norms; LFM3 also has a gate per head."""
    third = facts.model_type == "lfm3"
    bias = third and facts.flag("attention_bias")
    names = ("q_proj", "k_proj", "v_proj", "o_proj" if third else "out_proj")
    groups = separate_attention(s, names, bias=bias, out_bias=bias) + norm(s.head_dim, count=2 * s.layers)
    if third and facts.flag("use_attention_gate"):
        groups += linear("attention", "g_proj", s.heads, s.hidden, count=s.layers)
    return groups


def _convolution(hidden: int, kernel: int, count: int, *, bias: bool) -> list[TensorGroup]:
    """Gated short convolutions: an input projection (two gates and the input), a depthwise filter, and the output."""
    return [
        *linear("state", "in_proj", 3 * hidden, hidden, count=count, bias=bias),
        *weight("state", "conv", hidden, 1, kernel, count=count),
        *(weight("state", "conv.bias", hidden, count=count) if bias else ()),
        *linear("state", "out_proj", hidden, hidden, count=count, bias=bias),
    ]


def _networks(facts: Facts, s: Sizes) -> tuple[Sequence[Ffn], list[TensorGroup]]:
    sparse = max(0, s.layers - facts.integer("num_dense_layers")) if facts.model_type == "lfm2_moe" else 0
    dense = s.layers - sparse
    units = _units(facts)
    groups = feed_forward((s.hidden, units), _MLP, count=dense)
    ffns: list[Ffn] = [Dense(intermediate=units, gated=True)] * dense
    if sparse:
        mixed = Experts(
            count=facts.integer("num_experts"),
            per_token=facts.integer("num_experts_per_tok"),
            intermediate=facts.integer("moe_intermediate_size"),
        )
        ffns += [mixed] * sparse
        groups += _experts(mixed, s.hidden, sparse)
    return ffns, groups


def _experts(mixed: Experts, hidden: int, layers: int) -> list[TensorGroup]:
    return [
        *router(mixed.count, hidden, count=layers),
        *experts("gate_up_proj", mixed.count, mixed.per_token, 2 * mixed.intermediate, hidden, layers=layers),
        *experts("down_proj", mixed.count, mixed.per_token, hidden, mixed.intermediate, layers=layers),
    ]


def _units(facts: Facts) -> int:
    """Intermediate size of dense networks. LFM2 takes two thirds of the config's value, scaled and rounded up
    (Lfm2MLP)."""
    if facts.model_type != "lfm2":
        return facts.integer("intermediate_size")
    units = facts.integer("block_ff_dim", "intermediate_size")
    if not facts.flag("block_auto_adjust_ff_dim"):
        return units
    units = int(2 * units / 3)
    factor = facts.number("block_ffn_dim_multiplier", default=0)
    multiple = facts.integer("block_multiple_of")
    return multiple * -(-int(factor * units) // multiple) if factor else units
