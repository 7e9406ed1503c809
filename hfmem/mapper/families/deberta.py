"""DeBERTa-v2 and -v3: relative positions with query and key projections of their own (modeling_deberta_v2.py)."""

from __future__ import annotations

from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._encoder import Heads, Widths, blocks, encoder, widths
from hfmem.mapper.values import TensorGroup

__all__ = ["read"]

_HEADS = Heads(pooled=frozenset({"sequence_classification", "multiple_choice"}))


def read(facts: Facts) -> Blueprint:
    """Layers and weights; the LM head is unknown where `attention_head_size` differs from hidden size / heads."""
    w = widths(facts)
    weights = [*_embeddings(facts, w), *blocks(w, w.layers), *_positions(facts, w), *_convolution(facts, w)]
    special = facts.has("attention_head_size") or not facts.flag("legacy", default=True)
    pooled = facts.integer("pooler_hidden_size", default=w.hidden) != w.hidden
    unknown = {"masked_lm"} if special else set()
    return encoder(
        facts,
        w,
        weights,
        Heads(pooled=_HEADS.pooled, unknown=frozenset(unknown | (_HEADS.pooled if pooled else set()))),
    )


def _embeddings(facts: Facts, w: Widths) -> list[TensorGroup]:
    groups = [*embedding(w.vocab, w.embedding, role="word_embeddings"), *norm(w.hidden, bias=True)]
    if facts.flag("position_biased_input"):
        groups += embedding(facts.integer("max_position_embeddings"), w.embedding, role="position_embeddings")
    if types := facts.integer("type_vocab_size"):
        groups += embedding(types, w.embedding, role="token_type_embeddings")
    if w.embedding != w.hidden:
        groups += weight("embedding", "embed_proj", w.hidden, w.embedding)
    return groups


def _positions(facts: Facts, w: Widths) -> list[TensorGroup]:
    """The relative position embeddings, their norm, and their key and query projections in each layer."""
    if not facts.flag("relative_attention"):
        return []
    buckets = int(facts.number("position_buckets", default=-1))
    reach = int(facts.number("max_relative_positions", default=-1))
    if reach < 1:
        reach = facts.integer("max_position_embeddings")
    # relative positions in both directions
    groups = embedding(2 * (buckets if buckets > 0 else reach), w.hidden, role="rel_embeddings")
    if "layer_norm" in facts.words("norm_rel_ebd"):
        groups += norm(w.hidden, bias=True)
    if not facts.flag("share_att_key"):
        terms = facts.words("pos_att_type")
        for term, name in (("c2p", "pos_key_proj"), ("p2c", "pos_query_proj")):
            if term in terms:
                groups += linear("attention", name, w.hidden, w.hidden, count=w.layers, bias=True)
    return groups


def _convolution(facts: Facts, w: Widths) -> list[TensorGroup]:
    """The convolution parallel to the first layer (DeBERTa-v2 xlarge and xxlarge)."""
    kernel = facts.integer("conv_kernel_size", default=0)
    if not kernel:
        return []
    groups = facts.integer("conv_groups", default=1)
    return [
        *weight("other", "conv", w.hidden, w.hidden // groups, kernel),
        *weight("other", "conv.bias", w.hidden),
        *norm(w.hidden, bias=True),
    ]
