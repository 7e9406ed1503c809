"""Shared parts of encoder models: blocks, poolers, and the heads of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hfmem.mapper.blueprint import Blueprint, head, linear, norm, weight
from hfmem.mapper.caches import KV, Cache, Nothing
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import feed_forward, layer_count
from hfmem.mapper.families._heads import labels, task
from hfmem.mapper.values import Architecture, Dense, Layer, TensorGroup

__all__ = ["Heads", "Widths", "architecture_of", "blocks", "encoder", "widths"]


_CROSSING = ("crossattention.query", "crossattention.key", "crossattention.value", "crossattention.dense")


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Sizes of an encoder; `embedding` is the embedding size, which may be smaller than the hidden size."""

    hidden: int
    embedding: int
    layers: int
    heads: int
    intermediate: int
    vocab: int
    tied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The heads that a type's classes add to the base model.

    Attributes:
        pooled: tasks whose class includes the pooler.
        dense: tasks with a dense layer before the classifier.
        pairs: outputs of the second pre-training head (next sentence, sentence order); 0 for one per label.
        answers: outputs of a question-answering head; None for one per label.
        untied_biases: number of biases of an LM head that is not tied to the embedding.
        transform: whether an LM head has a dense layer and a norm before the projection to the vocabulary.
        crosses: whether its classes support cross-attention.
        unknown: tasks that are not described here.
    """

    pooled: frozenset[str] = frozenset()
    dense: frozenset[str] = frozenset()
    pairs: int = 2
    answers: int | None = None
    untied_biases: int = 2
    transform: bool = True
    crosses: bool = True
    unknown: frozenset[str] = frozenset()


def widths(facts: Facts, intermediate: str = "intermediate_size") -> Widths:
    """Sizes from the config."""
    hidden = facts.integer("hidden_size")
    return Widths(
        hidden=hidden,
        embedding=facts.integer("embedding_size", default=hidden),
        layers=layer_count(facts),
        heads=facts.integer("num_attention_heads"),
        intermediate=facts.integer(intermediate),
        vocab=facts.integer("vocab_size"),
        tied=facts.flag("tie_word_embeddings", default=True),
    )


def blocks(w: Widths, count: int, names: Sequence[str] = ("query", "key", "value", "dense")) -> list[TensorGroup]:
    """`count` blocks of BERT: attention and feed-forward with biases, a LayerNorm after each."""
    groups: list[TensorGroup] = []
    for name in names:
        groups += linear("attention", name, w.hidden, w.hidden, count=count, bias=True)
    groups += feed_forward((w.hidden, w.intermediate), ("intermediate", "output"), count=count, bias=True)
    return groups + norm(w.hidden, count=2 * count, bias=True)


def architecture_of(facts: Facts, w: Widths, layer: Layer, head: Literal["lm_head", "none"] | None) -> Architecture:
    """An encoder of identical layers, with the kind of head that its class has."""
    return Architecture(
        model_type=facts.model_type,
        hidden_size=w.hidden,
        vocab_size=w.vocab,
        max_positions=facts.optional_integer("max_position_embeddings"),
        tied_embeddings=w.tied,
        attention_heads=w.heads,
        kv_heads=w.heads,
        head_dim=w.hidden // w.heads,
        intermediate_size=w.intermediate,
        layers=(layer,) * w.layers,
        head=head,
    )


def encoder(
    facts: Facts, w: Widths, weights: Sequence[TensorGroup], heads: Heads | Sequence[TensorGroup], gated: bool = False
) -> Blueprint:
    """An encoder with `weights` and the head of its class, which is described by `heads` or given as weights."""
    kind = task(facts, "base")
    if isinstance(heads, Heads):
        extra = None if kind in heads.unknown else _added(facts, w, heads, kind)
    else:
        extra = list(heads) if kind else None
    decodes, crossed = facts.flag("is_decoder"), facts.flag("add_cross_attention")
    if crossed and extra is not None:
        extra = extra + _crossing(w) if isinstance(heads, Heads) and heads.crosses else None
    size = w.hidden // w.heads
    cache: Cache = KV(heads=w.heads, key_dim=size, value_dim=size) if decodes else Nothing()
    layer = Layer(
        kind="full_attention" if decodes else "none",
        cache=cache,
        heads=w.heads,
        ffn=Dense(intermediate=w.intermediate, gated=gated),
    )
    language = kind in ("masked_lm", "causal_lm", "pre_training")
    return Blueprint(
        architecture=architecture_of(facts, w, layer, ("lm_head" if language else "none") if kind else None),
        groups=None if extra is None else (*weights, *extra),
    )


def _crossing(w: Widths) -> list[TensorGroup]:
    """Cross-attention of all layers, each with a norm."""
    groups = norm(w.hidden, count=w.layers, bias=True)
    for role in _CROSSING:
        groups += linear("attention", role, w.hidden, w.hidden, count=w.layers, bias=True)
    return groups


def _added(facts: Facts, w: Widths, heads: Heads, kind: str) -> list[TensorGroup] | None:
    groups = _pooler(w, "pooler") if kind in heads.pooled else []
    if kind in heads.dense:
        groups += _dense(w, "dense")
    if kind in ("masked_lm", "causal_lm", "pre_training"):
        groups += _language_head(w, heads)
    if kind == "pre_training":
        groups += _classifier(w, heads.pairs or labels(facts), "seq_relationship")
    outputs = {
        "sequence_classification": labels(facts),
        "token_classification": labels(facts),
        "question_answering": labels(facts) if heads.answers is None else heads.answers,
        "multiple_choice": 1,
        "next_sentence_prediction": 2,
    }
    if kind in outputs:
        groups += _classifier(w, outputs[kind], "classifier")
    return groups if kind in outputs or kind in ("base", "masked_lm", "causal_lm", "pre_training") else None


def _pooler(w: Widths, role: str) -> list[TensorGroup]:
    return weight("other", role, w.hidden, w.hidden) + weight("other", f"{role}.bias", w.hidden)


def _dense(w: Widths, role: str) -> list[TensorGroup]:
    return head(w.hidden, w.hidden, tied=False, bias=True, role=role)


def _classifier(w: Widths, outputs: int, role: str) -> list[TensorGroup]:
    return head(outputs, w.hidden, tied=False, bias=True, role=role)


def _language_head(w: Widths, heads: Heads) -> list[TensorGroup]:
    """An LM head: a transform to the embedding size, its norm, and the projection to the vocabulary with its bias."""
    transform = [
        *head(w.embedding, w.hidden, tied=False, bias=True, role="transform"),
        *weight("norm", "transform.norm", w.embedding),
        *weight("norm", "transform.norm.bias", w.embedding),
    ]
    return [
        *(transform if heads.transform else ()),
        *head(w.vocab, w.embedding, tied=w.tied, role="decoder"),
        *weight("lm_head", "decoder.bias", w.vocab, count=1 if w.tied else heads.untied_biases),
    ]
