"""Encoders with rotary positions and gated feed-forward networks: ModernBERT, Nomic BERT."""

from __future__ import annotations

from hfmem.mapper.blueprint import Blueprint, embedding, head, linear, norm, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import feed_forward
from hfmem.mapper.families._encoder import Heads, Widths, encoder, widths
from hfmem.mapper.families._heads import labels, task
from hfmem.mapper.values import TensorGroup

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers and weights, by the type's own reader."""
    return _modernbert(facts) if facts.model_type == "modernbert" else _nomic(facts)


def _modernbert(facts: Facts) -> Blueprint:
    """modeling_modernbert.py: alternating local and global attention; the first layer has no attention norm."""
    w = widths(facts)
    attention, mlp = facts.flag("attention_bias"), facts.flag("mlp_bias")
    weights = [
        *embedding(w.vocab, w.hidden, role="tok_embeddings"),
        *linear("attention", "Wqkv", 3 * w.hidden, w.hidden, count=w.layers, bias=attention),
        *linear("attention", "Wo", w.hidden, w.hidden, count=w.layers, bias=attention),
        *linear("mlp", "Wi", 2 * w.intermediate, w.hidden, count=w.layers, bias=mlp),
        *linear("mlp", "Wo", w.hidden, w.intermediate, count=w.layers, bias=mlp),
        *norm(w.hidden, count=2 * w.layers + 1, bias=facts.flag("norm_bias")),
    ]
    return encoder(facts, w, weights, _modernbert_head(facts, w), gated=True)


def _modernbert_head(facts: Facts, w: Widths) -> list[TensorGroup]:
    kind = task(facts, "base")
    if kind in ("", "base"):
        return []
    groups = head(w.hidden, w.hidden, tied=False, bias=facts.flag("classifier_bias"), role="head.dense")
    groups += norm(w.hidden, bias=facts.flag("norm_bias"), role="head.norm")
    if kind == "masked_lm":
        return groups + head(w.vocab, w.hidden, tied=w.tied, bias=facts.flag("decoder_bias"), role="decoder")
    outputs = 1 if kind == "multiple_choice" else labels(facts)
    return groups + head(outputs, w.hidden, tied=False, bias=True, role="classifier")


def _nomic(facts: Facts) -> Blueprint:
    """modeling_nomic_bert.py."""
    w = widths(facts)
    inner = w.heads * facts.integer("head_dim", default=w.hidden // w.heads)
    weights = [
        *embedding(w.vocab, w.hidden, role="word_embeddings"),
        *weight("embedding", "token_type_embeddings", facts.integer("type_vocab_size"), w.hidden),
        *linear("attention", "q_proj", inner, w.hidden, count=w.layers),
        *linear("attention", "k_proj", inner, w.hidden, count=w.layers),
        *linear("attention", "v_proj", inner, w.hidden, count=w.layers),
        *linear("attention", "o_proj", w.hidden, inner, count=w.layers),
        *feed_forward((w.hidden, w.intermediate), ("gate_proj", "up_proj", "down_proj"), count=w.layers),
        *norm(w.hidden, count=2 * w.layers + 1, bias=True),
    ]
    return encoder(facts, w, weights, Heads(pooled=frozenset({"sequence_classification"})), gated=True)
