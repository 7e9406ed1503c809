"""Inkling: full and sliding-window attention with different sizes, and short convolutions (modeling_inkling.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, experts, linear, norm, router, weight
from hfmem.mapper.caches import Combined, State
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, sizes
from hfmem.mapper.families._dialect import GATED
from hfmem.mapper.families._states import Keeps, attention_of, kept_kv, kinds_of, layers_with
from hfmem.mapper.values import Dense, Experts, Ffn, TensorGroup

__all__ = ["read"]

_KINDS: Final = ("hybrid_sliding", "hybrid")


def read(facts: Facts) -> Blueprint:
    """Layers and weights of the text model.

    Besides keys and values, a layer caches the states of four short convolutions in float32
    (InklingShortConvolution): those of keys, of values, and of the outputs of attention and feed-forward network.
    """
    s = replace(sizes(facts), tied=False)  # the class ignores `tie_word_embeddings`
    kinds = kinds_of(facts, _default(facts, s.layers), _KINDS)
    window, kernel = facts.integer("sliding_window_size"), facts.integer("conv_kernel_size", "sconv_kernel_size")
    local = replace(
        s,
        heads=facts.integer("swa_num_attention_heads"),
        kv_heads=facts.integer("swa_num_key_value_heads"),
        head_dim=facts.integer("swa_head_dim"),
    )
    ffns, networks = _networks(facts, s)
    weights = [
        *embedding(s.vocab, s.hidden),
        *_attention(facts, attention_of(s, kinds, "hybrid"), facts.integer("rel_extent"), kernel),
        *_attention(facts, attention_of(local, kinds, "hybrid_sliding"), window, kernel),
        *weight("state", "sconv", s.hidden, 1, kernel, count=2 * s.layers),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 2),
    ]
    keeps = {"hybrid": _keeps(s, None, kernel), "hybrid_sliding": _keeps(local, window, kernel)}
    return decoder(facts, s, weights, layers_with(facts, kinds, keeps, ffns))


def _default(facts: Facts, layers: int) -> Sequence[str]:
    listed = facts.items("local_layer_ids")
    return ["hybrid_sliding" if ((i + 1) % 6 if listed is None else i in listed) else "hybrid" for i in range(layers)]


def _keeps(s: Sizes, window: int | None, kernel: int) -> Keeps:
    # short convolutions over keys and values, and two over the hidden size
    state = State(conv=(2 * s.kv + 2 * s.hidden) * kernel, conv_dtype="float32")
    return Keeps(cache=Combined(caches=(kept_kv(s, window).cache, state)), heads=s.heads)


def _attention(facts: Facts, s: Sizes, extent: int, kernel: int) -> list[TensorGroup]:
    """Attention with learned low-rank position biases for each distance up to `extent`."""
    rank = facts.integer("d_rel")
    return [
        *linear("attention", "q_proj", s.query, s.hidden, count=s.layers),
        *linear("attention", "k_proj", s.kv, s.hidden, count=s.layers),
        *linear("attention", "v_proj", s.kv, s.hidden, count=s.layers),
        *linear("attention", "r_proj", s.heads * rank, s.hidden, count=s.layers),
        *linear("attention", "o_proj", s.hidden, s.query, count=s.layers),
        *weight("attention", "rel_logits_proj", rank, extent, count=s.layers),
        *weight("state", "sconv", s.kv, 1, kernel, count=2 * s.layers),
        *norm(s.head_dim, count=2 * s.layers, role="qk_norm"),
    ]


def _networks(facts: Facts, s: Sizes) -> tuple[Sequence[Ffn], list[TensorGroup]]:
    """Dense networks and experts, each with a scale. If the config has `dense_intermediate_size`, its
    `intermediate_size` is that of the experts."""
    sparse = _sparse(facts, s.layers)
    units = facts.integer("dense_intermediate_size", default=facts.integer("intermediate_size"))
    apart = facts.has("dense_intermediate_size")
    each = facts.integer("intermediate_size" if apart else "moe_intermediate_size")
    shared = facts.integer("n_shared_experts")
    mixed = Experts(
        count=facts.integer("n_routed_experts"),
        per_token=facts.integer("num_experts_per_tok"),
        intermediate=each,
        shared=shared * each,
    )
    dense = Dense(intermediate=units, gated=True)
    count = sum(sparse)
    return [mixed if has_experts else dense for has_experts in sparse], [
        *feed_forward((s.hidden, units), GATED, count=s.layers - count),
        *weight("mlp", "global_scale", 1, count=s.layers - count),
        *router(mixed.count + shared, s.hidden, count=count),
        *weight("router", "global_scale", 1, count=count),
        *experts("gate_up_proj", mixed.count, mixed.per_token, 2 * each, s.hidden, layers=count),
        *experts("down_proj", mixed.count, mixed.per_token, s.hidden, each, layers=count),
        *feed_forward((s.hidden, mixed.shared), GATED, count=count, component="shared_experts"),
    ]


def _sparse(facts: Facts, layers: int) -> Sequence[bool]:
    listed = facts.items("mlp_layer_types")
    if listed is None:
        first = facts.integer("dense_mlp_idx", default=0)
        return [index >= first for index in range(layers)]
    if len(listed) != layers:
        raise InvalidConfigError("", f"mlp_layer_types has {len(listed)} entries for {layers} layers")
    return [kind == "sparse" for kind in listed]
