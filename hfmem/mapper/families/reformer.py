"""Reformer: layers with local or LSH attention, which cache their input hidden states (modeling_reformer.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import lcm

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, head, linear, norm, weight
from hfmem.mapper.caches import Cache, Hidden, Nothing
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward
from hfmem.mapper.families._heads import labels, task
from hfmem.mapper.values import Dense, Layer, TensorGroup

__all__ = ["read"]

_LOCAL, _HASHED = "local", "lsh"
_SPEAKING = ("causal_lm", "masked_lm")
_MOST_LAYERS = 100_000


def read(facts: Facts) -> Blueprint:
    """Layers and weights. The output has twice the hidden size, as reversible layers have two residual streams."""
    kinds = _kinds(facts)
    s, inner = _sizes(facts, len(kinds)), facts.integer("feed_forward_size")
    weights = [
        *embedding(s.vocab, s.hidden, role="word_embeddings"),
        *_positions(facts, s),
        *_attention(s, kinds),
        *feed_forward((s.hidden, inner), ("dense", "output.dense"), count=s.layers, bias=True),
        *norm(s.hidden, count=2 * s.layers, bias=True),
        *norm(2 * s.hidden, bias=True),  # the final norm is over both streams of the reversible layers, concatenated
    ]
    caches = _caches(facts, s, kinds)
    ffn = Dense(intermediate=inner, gated=False)
    layers = tuple(
        Layer(kind="none" if isinstance(cache, Nothing) else kind, cache=cache, heads=s.heads, ffn=ffn)
        for kind, cache in zip(kinds, caches, strict=True)
    )
    kind, found = _task(facts), decoder(facts, s, weights, layers)
    added = _head(facts, s, kind)
    return Blueprint(
        architecture=replace(found.architecture, head="lm_head" if kind in _SPEAKING else "none"),
        groups=None if added is None else (*weights, *added),
    )


def _kinds(facts: Facts) -> tuple[str, ...]:
    kinds = facts.items("attn_layers")
    if kinds is None:
        raise MissingFactError("attn_layers")
    if len(kinds) > _MOST_LAYERS:
        raise InvalidConfigError("", f"attn_layers has {len(kinds)} entries, expected at most {_MOST_LAYERS}")
    for kind in kinds:
        if kind not in (_LOCAL, _HASHED):
            raise InvalidConfigError("", f"attn_layers has {kind!r}, which is not a layer type of {facts.model_type}")
    return kinds


def _sizes(facts: Facts, layers: int) -> Sizes:
    heads = facts.integer("num_attention_heads")
    return Sizes(
        hidden=facts.integer("hidden_size"),
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=facts.integer("attention_head_size"),
        vocab=facts.integer("vocab_size"),
        tied=False,  # the head's input is twice the hidden size, so it cannot share the embedding
    )


def _caches(facts: Facts, s: Sizes, kinds: Sequence[str]) -> list[Cache]:
    """Hidden states of all tokens (ReformerDynamicCache), and in LSH layers the bucket of each token, head and hash.
    Masked language models have no cache."""
    if _task(facts) == "masked_lm":
        return [Nothing()] * len(kinds)
    local = Hidden(width=s.hidden)
    if _HASHED not in kinds:
        return [local] * len(kinds)
    buckets = s.heads * facts.integer("num_hashes")
    hashed = replace(local, buckets=buckets, hashed_beyond=_hashed_beyond(facts, kinds))
    return [hashed if kind == _HASHED else local for kind in kinds]


def _hashed_beyond(facts: Facts, kinds: Sequence[str]) -> int:
    """The longest input that LSH layers process without hashing: one chunk, after padding."""
    # inputs are padded to a multiple of both chunk lengths, so a shorter local chunk can be the limit
    own = facts.integer("lsh_attn_chunk_length")
    other = facts.integer("local_attn_chunk_length") if _LOCAL in kinds else own
    return own if lcm(own, other) == own else min(own, other)


def _positions(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """Position embeddings: one table, or one per axis of a grid (AxialPositionEmbeddings)."""
    if not facts.flag("axial_pos_embds"):
        return embedding(facts.integer("max_position_embeddings"), s.hidden, role="position_embeddings")
    sides = zip(facts.integers("axial_pos_shape"), facts.integers("axial_pos_embds_dim"), strict=False)
    return [group for rows, width in sides for group in embedding(rows, width, role="position_embeddings")]


def _attention(s: Sizes, kinds: Sequence[str]) -> list[TensorGroup]:
    """Attention projections. LSH layers share one projection for queries and keys."""
    local, hashed = kinds.count(_LOCAL), kinds.count(_HASHED)
    return [
        *linear("attention", "query_key", s.query, s.hidden, count=hashed),
        *linear("attention", "query", s.query, s.hidden, count=local),
        *linear("attention", "key", s.query, s.hidden, count=local),
        *linear("attention", "value", s.query, s.hidden, count=s.layers),
        *linear("attention", "output.dense", s.hidden, s.query, count=s.layers),
    ]


def _task(facts: Facts) -> str:
    """The task of the class; the causal LM is named `ReformerModelWithLMHead`."""
    named = facts.items("architectures") or ("",)
    return "causal_lm" if str(named[0]).endswith("ModelWithLMHead") else task(facts, "causal_lm")


def _head(facts: Facts, s: Sizes, kind: str) -> list[TensorGroup] | None:
    """The head of the class; None where it is not described. LM heads have a second, unused bias
    (ReformerOnlyLMHead)."""
    width = 2 * s.hidden
    speaks = [*head(s.vocab, width, tied=False, bias=True, role="decoder"), *weight("lm_head", "bias", s.vocab)]
    if kind == "sequence_classification":
        dense = linear("lm_head", "dense", s.hidden, width, bias=True)
        return dense + head(labels(facts), s.hidden, tied=False, bias=True, role="out_proj")
    return {
        "base": [],
        "causal_lm": speaks,
        "masked_lm": speaks,
        "question_answering": head(labels(facts), width, tied=False, bias=True, role="qa_outputs"),
    }.get(kind)
