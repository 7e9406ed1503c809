"""Moonshine: an encoder of raw audio, and a decoder with gated feed-forward networks (modeling_moonshine.py)."""

from __future__ import annotations

from hfmem.mapper.blueprint import Blueprint, embedding, head, linear, norm, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import layer_count
from hfmem.mapper.families._heads import task
from hfmem.mapper.families._seq2seq import Stack, Stacks, networks, seq2seq
from hfmem.mapper.values import TensorGroup

__all__ = ["read"]

# Kernel sizes of the three convolutions of the audio encoder.
_KERNELS = (127, 7, 3)


def read(facts: Facts) -> Blueprint:
    """Layers and weights.

    The decoder has the encoder's heads, even if the config states others: MoonshineAttention writes its heads into the
    config, and the decoder is built after the encoder.
    """
    s = _stacks(facts)
    groups = [*_encoder(facts, s), *_decoder(facts, s), *embedding(s.vocab, s.hidden)]
    if task(facts, "conditional_generation") == "conditional_generation":
        groups += head(s.vocab, s.hidden, tied=s.tied, role="proj_out")
    return seq2seq(facts, s, groups)


def _stacks(facts: Facts) -> Stacks:
    hidden, heads = facts.integer("hidden_size"), facts.integer("encoder_num_attention_heads")
    return Stacks(
        hidden=hidden,
        head_dim=facts.integer("head_dim", default=hidden // heads),
        vocab=facts.integer("vocab_size"),
        tied=facts.flag("tie_word_embeddings"),
        encoder=_stack(facts, "encoder_num_hidden_layers", gated=False),
        decoder=_stack(facts, "decoder_num_hidden_layers", gated=True),
        positions=facts.optional_integer("max_position_embeddings"),
    )


def _stack(facts: Facts, layers: str, *, gated: bool) -> Stack:
    heads = facts.integer("encoder_num_attention_heads")
    return Stack(
        layers=layer_count(facts, layers),
        heads=heads,
        kv_heads=facts.integer("encoder_num_key_value_heads", default=heads),
        intermediate=facts.integer("intermediate_size"),
        gated=gated,
    )


def _encoder(facts: Facts, s: Stacks) -> list[TensorGroup]:
    layers = s.encoder.layers
    return [
        *_convolutions(s.hidden),
        *_attentions(facts, s, s.encoder, layers),
        *networks(s, s.encoder, ("fc1", "fc2"), bias=True),
        *norm(s.hidden, count=2 * layers + 1),
    ]


def _decoder(facts: Facts, s: Stacks) -> list[TensorGroup]:
    layers, inner = s.decoder.layers, s.decoder.intermediate
    return [
        *_attentions(facts, s, s.decoder, 2 * layers),
        *linear("mlp", "fc1", 2 * inner, s.hidden, count=layers, bias=True),
        *linear("mlp", "fc2", s.hidden, inner, count=layers, bias=True),
        *norm(s.hidden, count=3 * layers + 1),
    ]


def _convolutions(hidden: int) -> list[TensorGroup]:
    first, second, third = _KERNELS
    return [
        *weight("audio", "conv1", hidden, 1, first),
        *weight("audio", "conv2", 2 * hidden, hidden, second),
        *weight("audio", "conv2.bias", 2 * hidden),
        *weight("audio", "conv3", hidden, 2 * hidden, third),
        *weight("audio", "conv3.bias", hidden),
        *weight("audio", "groupnorm", hidden, count=2),
    ]


def _attentions(facts: Facts, s: Stacks, one: Stack, count: int) -> list[TensorGroup]:
    bias = facts.flag("attention_bias")
    query, kept = one.heads * s.head_dim, one.kept_heads * s.head_dim
    return [
        *linear("attention", "q_proj", query, s.hidden, count=count, bias=bias),
        *linear("attention", "k_proj", kept, s.hidden, count=count, bias=bias),
        *linear("attention", "v_proj", kept, s.hidden, count=count, bias=bias),
        *linear("attention", "o_proj", s.hidden, query, count=count),
    ]
