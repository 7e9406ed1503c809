"""Inkling 2: experts in every layer, full and sliding-window attention with different sizes, and short convolutions
(modeling_inkling2.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hfmem.mapper.blueprint import Blueprint, embedding, experts, linear, norm, router, weight
from hfmem.mapper.caches import Combined, State
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, sizes
from hfmem.mapper.families._heads import Output
from hfmem.mapper.families._states import Keeps, attention_of, kept_kv, kinds_of, layers_with
from hfmem.mapper.values import Experts, TensorGroup

__all__ = ["read"]

_FULL: Final = "hybrid"
_SLIDING: Final = "hybrid_sliding"
_PERIOD: Final = 6


def read(facts: Facts) -> Blueprint:
    """Layers and weights of the text model.

    Besides keys and values, a layer caches the states of four short convolutions in float32
    (Inkling2ShortConvolution, Inkling2DynamicShortConvolution): those of keys, of values, and of the outputs of
    attention and feed-forward network.
    """
    s = replace(sizes(facts), tied=False)  # the class ignores `tie_word_embeddings`
    default = [_SLIDING if (index + 1) % _PERIOD else _FULL for index in range(s.layers)]
    kinds = kinds_of(facts, default, (_SLIDING, _FULL))
    window, kernel = facts.integer("sliding_window_size"), facts.integer("conv_kernel_size")
    local = _local(facts, s)
    mixed = Experts(
        count=facts.integer("n_routed_experts"),
        per_token=facts.integer("num_experts_per_tok"),
        intermediate=facts.integer("intermediate_size", "moe_intermediate_size"),
    )
    full, slides = attention_of(s, kinds, _FULL), attention_of(local, kinds, _SLIDING)
    weights = [
        *embedding(s.vocab, s.hidden),
        *_attention(facts, full, facts.integer("rel_extent")),
        *_dynamic_convolutions(full, kernel),
        *_attention(facts, slides, window),
        *weight("state", "sconv", slides.kv, 1, kernel, count=2 * slides.layers),
        *weight("state", "sconv", s.hidden, 1, kernel, count=2 * s.layers),
        *_mixture(s, mixed),
        *_residuals(s, kinds),
        *norm(s.hidden, count=2 * slides.layers + 4 * full.layers + 2),
    ]
    keeps = {_FULL: _keeps(s, None, kernel), _SLIDING: _keeps(local, window, kernel)}
    rows = facts.integer("unpadded_vocab_size")  # the embedding is padded, the head is not
    output = Output(width=s.hidden, vocab=rows, tied=False)
    return decoder(facts, s, weights, layers_with(facts, kinds, keeps, [mixed] * s.layers), output)


def _local(facts: Facts, s: Sizes) -> Sizes:
    """The sizes of sliding-window layers."""
    return replace(
        s,
        heads=facts.integer("swa_num_attention_heads"),
        kv_heads=facts.integer("swa_num_key_value_heads"),
        head_dim=facts.integer("swa_head_dim"),
    )


def _keeps(s: Sizes, window: int | None, kernel: int) -> Keeps:
    state = State(conv=(2 * s.kv + 2 * s.hidden) * kernel, conv_dtype="float32")
    return Keeps(cache=Combined(caches=(kept_kv(s, window).cache, state)), heads=s.heads)


def _attention(facts: Facts, s: Sizes, extent: int) -> list[TensorGroup]:
    """Gated attention with sinks, and learned low-rank position biases for each distance up to `extent`."""
    rank = facts.integer("d_rel")
    return [
        *linear("attention", "q_proj", s.query, s.hidden, count=s.layers),
        *linear("attention", "k_proj", s.kv, s.hidden, count=s.layers),
        *linear("attention", "v_proj", s.kv, s.hidden, count=s.layers),
        *linear("attention", "r_proj", s.heads * rank, s.hidden, count=s.layers),
        *linear("attention", "gate_proj", s.query, s.hidden, count=s.layers),
        *linear("attention", "sink_proj", s.heads, s.hidden, count=s.layers),
        *linear("attention", "o_proj", s.hidden, s.query, count=s.layers),
        *weight("attention", "rel_logits_proj", rank, extent, count=s.layers),
        *weight("attention", "q_l2_clip", s.heads, s.head_dim, count=s.layers),
        *weight("attention", "rel_l2_clip", s.heads, rank, count=s.layers),
    ]


def _dynamic_convolutions(s: Sizes, kernel: int) -> list[TensorGroup]:
    """Convolutions of keys and values whose filters are a static weight plus a projection of the token."""
    return [
        *weight("state", "static_weight", kernel, s.kv, count=2 * s.layers),
        *linear("state", "weight_proj", s.kv_heads * kernel, s.hidden, count=2 * s.layers),
    ]


def _mixture(s: Sizes, mixed: Experts) -> list[TensorGroup]:
    count, used, each = mixed.count, mixed.per_token, mixed.intermediate
    return [
        *router(count, s.hidden, count=s.layers),
        *experts("gate_up_proj", count, used, 2 * each, s.hidden, layers=s.layers),
        *experts("down_proj", count, used, s.hidden, each, layers=s.layers),
    ]


def _residuals(s: Sizes, kinds: Sequence[str]) -> list[TensorGroup]:
    """Queries of attention over the outputs of earlier blocks: one before each feed-forward network and at the end, one
    before each attention but the first, or three where queries, keys and values have one each (full attention)."""
    attentions = sum(3 if kind == _FULL else 1 for kind in kinds[1:])
    return weight("other", "query", s.hidden, count=attentions + s.layers + 1)
