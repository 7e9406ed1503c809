"""XLNet: caches the input hidden states of each layer in place of keys and values (modeling_xlnet.py)."""

from __future__ import annotations

from dataclasses import replace

from hfmem.mapper.blueprint import Blueprint, embedding, head, linear, norm, weight
from hfmem.mapper.caches import Cache, Hidden, Nothing
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, sizes
from hfmem.mapper.families._heads import Output, labels, task
from hfmem.mapper.values import Dense, Layer, TensorGroup

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers and weights."""
    hidden = facts.integer("hidden_size")
    head_dim = facts.integer("d_head", default=hidden // facts.integer("num_attention_heads"))
    s, inner = sizes(facts, head_dim=head_dim), facts.integer("d_inner")
    weights = [
        *embedding(s.vocab, s.hidden, role="word_embedding"),
        *weight("embedding", "mask_emb", 1, 1, s.hidden),
        *_attention(s),
        *feed_forward((s.hidden, inner), ("layer_1", "layer_2"), count=s.layers, bias=True),
        *norm(s.hidden, count=2 * s.layers, bias=True),
    ]
    cache = _cache(facts, s.hidden)
    layer = Layer(
        kind="none" if isinstance(cache, Nothing) else "full_attention",
        cache=cache,
        heads=s.heads,
        ffn=Dense(intermediate=inner, gated=False),
    )
    out = Output(width=s.hidden, vocab=s.vocab, tied=s.tied, bias=True, role="lm_loss", answers=None)
    found = decoder(facts, s, weights, (layer,) * s.layers, out)
    added = _head(facts, s)
    if added is None:
        return found
    return Blueprint(architecture=replace(found.architecture, head="none"), groups=(*weights, *added))


def _cache(facts: Facts, width: int) -> Cache:
    """Hidden states of the last `mem_len` tokens, and of each input only the first `reuse_len` tokens
    (XLNetModel.cache_mem)."""
    if not facts.flag("use_mems_eval"):
        return Nothing()
    bounds = [facts.optional_integer(key) for key in ("mem_len", "reuse_len")]
    return Hidden(width=width, window=min((bound for bound in bounds if bound), default=None))


def _attention(s: Sizes) -> list[TensorGroup]:
    """Attention with relative positions and relative segments."""
    return [
        *weight("attention", "qkvro", s.hidden, s.heads, s.head_dim, count=5 * s.layers),
        *weight("attention", "bias", s.heads, s.head_dim, count=3 * s.layers),
        *weight("attention", "seg_embed", 2, s.heads, s.head_dim, count=s.layers),
    ]


def _head(facts: Facts, s: Sizes) -> list[TensorGroup] | None:
    """The heads specific to XLNet; None for heads that all decoders share."""
    named = facts.items("architectures") or ("",)
    kind = task(facts, "causal_lm")
    if kind == "token_classification":
        return head(labels(facts), s.hidden, tied=False, bias=True, role="classifier")
    if kind in ("sequence_classification", "multiple_choice"):
        outputs = labels(facts) if kind == "sequence_classification" else 1
        return _summary(facts, s) + head(outputs, s.hidden, tied=False, bias=True, role="logits_proj")
    if str(named[0]).endswith("QuestionAnsweringSimple"):
        return head(labels(facts), s.hidden, tied=False, bias=True, role="qa_outputs")
    return _answers(s) if kind == "question_answering" else None


def _summary(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """The sequence summary before a classifier (XLNetSequenceSummary)."""
    if not facts.flag("summary_use_proj"):
        return []
    outputs = labels(facts) if facts.flag("summary_proj_to_labels") else s.hidden
    return linear("lm_head", "summary", outputs, s.hidden, bias=True)


def _answers(s: Sizes) -> list[TensorGroup]:
    """Question answering: start logits, end logits given the start, and whether the question is answerable."""
    return [
        *linear("lm_head", "start_logits", 1, s.hidden, bias=True),
        *linear("lm_head", "dense_0", s.hidden, 2 * s.hidden, count=2, bias=True),
        *norm(s.hidden, bias=True),
        *linear("lm_head", "dense_1", 1, s.hidden, bias=True),
        *linear("lm_head", "dense_1", 1, s.hidden),
    ]
