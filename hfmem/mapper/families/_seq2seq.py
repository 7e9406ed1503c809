"""Shared parts of encoder-decoders: sizes of both stacks, their blocks, and the decoder's layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hfmem.mapper.blueprint import Blueprint, head, linear
from hfmem.mapper.caches import KV, Cache, Combined, CrossKV, Nothing
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import feed_forward, layer_count
from hfmem.mapper.families._heads import task
from hfmem.mapper.values import Architecture, Dense, Layer, TensorGroup

__all__ = ["Form", "Stack", "Stacks", "added", "attentions", "form", "networks", "seq2seq", "stack"]

Form = Literal["both", "encoder", "decoder"]
"""Which of the two stacks a class has."""

_ENCODERS = ("EncoderModel", "ForTokenClassification", "ForAudioClassification", "Encoder")
_DECODERS = ("ForCausalLM", "DecoderWrapper", "Decoder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The sizes of the encoder or the decoder; `kv_heads` only where they differ from `heads`."""

    layers: int
    heads: int
    intermediate: int
    gated: bool = False
    kv_heads: int | None = None

    @property
    def kept_heads(self) -> int:
        """KV heads."""
        return self.heads if self.kv_heads is None else self.kv_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacks:
    """Encoder and decoder.

    Attributes:
        hidden: hidden size of both.
        head_dim: head_dim of both.
        vocab: rows of the output embedding.
        tied: whether encoder, decoder and head share one embedding.
        positions: maximum decoder length; None for no limit.
        source_positions: maximum length of the encoder's output.
        fixed: whether the encoder's output always has this length (Whisper).
    """

    hidden: int
    head_dim: int
    vocab: int
    tied: bool
    encoder: Stack
    decoder: Stack
    positions: int | None = None
    source_positions: int | None = None
    fixed: bool = False


def form(facts: Facts) -> Form:
    """Which stacks the first class in `architectures` has."""
    named = facts.items("architectures")
    name = named[0] if named and isinstance(named[0], str) else ""
    if name.endswith(_ENCODERS):
        return "encoder"
    return "decoder" if name.endswith(_DECODERS) else "both"


def stack(facts: Facts, layers: str, heads: str, intermediate: str, *, gated: bool = False) -> Stack:
    """A stack with its sizes at the given config keys."""
    return Stack(
        layers=layer_count(facts, layers),
        heads=facts.integer(heads),
        intermediate=facts.integer(intermediate),
        gated=gated,
    )


def attentions(
    s: Stacks, names: Sequence[str], *, count: int, bias: bool = False, key_bias: bool = True
) -> list[TensorGroup]:
    """Query, key, value and output projections of `count` attention modules, of the same size in both stacks."""
    query, key, value, out = names
    width = s.decoder.heads * s.head_dim
    return [
        *linear("attention", query, width, s.hidden, count=count, bias=bias),
        *linear("attention", key, width, s.hidden, count=count, bias=bias and key_bias),
        *linear("attention", value, width, s.hidden, count=count, bias=bias),
        *linear("attention", out, s.hidden, width, count=count, bias=bias),
    ]


def networks(s: Stacks, one: Stack, names: Sequence[str], *, bias: bool = False) -> list[TensorGroup]:
    """The feed-forward networks of one stack."""
    return feed_forward((s.hidden, one.intermediate), names, count=one.layers, bias=bias)


def added(kind: str, s: Stacks, outputs: int) -> list[TensorGroup] | None:
    """The head of a class for this task; None where it is not described. Sequence classification has a dense layer
    before the classifier."""
    classifier = head(outputs, s.hidden, tied=False, bias=True, role="classifier")
    return {
        "base": [],
        "conditional_generation": head(s.vocab, s.hidden, tied=s.tied),
        "question_answering": classifier,
        "token_classification": classifier,
        "sequence_classification": [*head(s.hidden, s.hidden, tied=False, bias=True, role="dense"), *classifier],
    }.get(kind)


def seq2seq(facts: Facts, s: Stacks, groups: Sequence[TensorGroup] | None) -> Blueprint:
    """The architecture of the class, with its weights."""
    return Blueprint(architecture=_architecture(facts, s), groups=None if groups is None else tuple(groups))


def _architecture(facts: Facts, s: Stacks) -> Architecture:
    """The architecture of the decoder, or of the encoder for classes that have only that."""
    which = form(facts)
    one = s.encoder if which == "encoder" else s.decoder
    layer = Layer(
        kind="none" if which == "encoder" else "full_attention",
        cache=_cache(s, one, which),
        heads=one.heads,
        ffn=Dense(intermediate=one.intermediate, gated=one.gated),
    )
    speaks = which != "encoder" and task(facts, "conditional_generation") in ("causal_lm", "conditional_generation")
    return Architecture(
        model_type=facts.model_type,
        hidden_size=s.hidden,
        vocab_size=s.vocab,
        max_positions=s.source_positions if which == "encoder" else s.positions,
        tied_embeddings=s.tied,
        attention_heads=one.heads,
        kv_heads=one.kept_heads,
        head_dim=s.head_dim,
        intermediate_size=one.intermediate,
        layers=(layer,) * one.layers,
        head="lm_head" if speaks else "none",
        source=None if which != "both" else "fixed" if s.fixed else "encoder",
        max_source_positions=s.source_positions if which == "both" else None,
    )


def _cache(s: Stacks, one: Stack, which: Form) -> Cache:
    """The decoder's KV cache: of its own tokens, and of the encoder's for cross-attention."""
    if which == "encoder":
        return Nothing()
    heads = one.kept_heads
    own = KV(heads=heads, key_dim=s.head_dim, value_dim=s.head_dim)
    if which == "decoder":
        return own
    tokens = s.source_positions if s.fixed else None
    return Combined(caches=(own, CrossKV(heads=heads, key_dim=s.head_dim, value_dim=s.head_dim, tokens=tokens)))
