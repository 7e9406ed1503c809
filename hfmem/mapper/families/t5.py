"""T5 and related encoder-decoders with relative positions (`modeling_<type>.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from hfmem.mapper.blueprint import Blueprint, embedding, norm, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import layer_count
from hfmem.mapper.families._heads import labels, task
from hfmem.mapper.families._seq2seq import Form, Stack, Stacks, added, attentions, form, networks, seq2seq
from hfmem.mapper.values import TensorGroup

__all__ = ["read"]

_ATTENTION = ("q", "k", "v", "o")


def read(facts: Facts) -> Blueprint:
    """Layers and weights."""
    s, which = _stacks(facts), form(facts)
    output = _head(facts, s, which)
    if output is None:
        return seq2seq(facts, s, None)
    groups = embedding(s.vocab, s.hidden, role="shared")
    groups += _stack(facts, s, s.encoder, crossing=False)
    if which == "both":
        groups += _stack(facts, s, s.decoder, crossing=True)
    return seq2seq(facts, s, [*groups, *output])


def _stacks(facts: Facts) -> Stacks:
    layers = layer_count(facts, "num_layers")
    gated = (facts.text("feed_forward_proj") or "").startswith("gated")
    heads, intermediate = facts.integer("num_heads"), facts.integer("d_ff")
    below = facts.optional_integer("num_decoder_layers")
    return Stacks(
        hidden=facts.integer("d_model"),
        head_dim=facts.integer("d_kv"),
        vocab=facts.integer("vocab_size"),
        tied=True,  # the config classes override the file's value (configuration_t5.py)
        encoder=Stack(layers=layers, heads=heads, intermediate=intermediate, gated=gated),
        decoder=Stack(layers=layers if below is None else below, heads=heads, intermediate=intermediate, gated=gated),
        positions=facts.optional_integer("n_positions"),
        source_positions=facts.optional_integer("n_positions"),
    )


def _stack(facts: Facts, s: Stacks, one: Stack, *, crossing: bool) -> list[TensorGroup]:
    """Blocks, the final norm, and the table of relative positions, shared by all layers (in UMT5, one per layer)."""
    halves = 3 if crossing else 2
    tables = one.layers if facts.model_type == "umt5" else min(one.layers, 1)
    groups = [
        *attentions(s, _ATTENTION, count=(halves - 1) * one.layers),
        *networks(s, one, ("wi_0", "wi_1", "wo") if one.gated else ("wi", "wo")),
        *norm(s.hidden, count=halves * one.layers + 1),
        *weight(
            "attention",
            "relative_attention_bias",
            facts.integer("relative_attention_num_buckets"),
            one.heads,
            count=tables,
        ),
    ]
    if facts.model_type == "longt5" and not crossing and facts.text("encoder_attention_type") != "local":
        buckets = facts.integer("relative_attention_num_buckets")
        groups += weight("attention", "global_relative_attention_bias", buckets, one.heads)
        groups += norm(s.hidden, count=one.layers, role="global_input_layer_norm")
    return groups


def _head(facts: Facts, s: Stacks, which: Form) -> Sequence[TensorGroup] | None:
    """The head of the class; None where it is not described."""
    return None if which == "decoder" else added(task(facts, "conditional_generation"), s, labels(facts))
