"""TrOCR's decoder: BART's decoder with cross-attention to an image encoder (modeling_trocr.py)."""

from __future__ import annotations

from hfmem.mapper.blueprint import Blueprint, embedding, head, linear, norm
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._heads import task
from hfmem.mapper.families._seq2seq import Stacks, attentions, networks, seq2seq, stack
from hfmem.mapper.values import TensorGroup

__all__ = ["read"]

_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")

# modeling_trocr.py: TrOCRLearnedPositionalEmbedding has two extra rows.
_POSITION_OFFSET = 2


def read(facts: Facts) -> Blueprint:
    """Layers and weights. Cross-attention's key and value inputs have `cross_attention_hidden_size`, if given."""
    hidden = facts.integer("d_model")
    decoder = stack(facts, "decoder_layers", "decoder_attention_heads", "decoder_ffn_dim")
    s = Stacks(
        hidden=hidden,
        head_dim=hidden // decoder.heads,
        vocab=facts.integer("vocab_size"),
        tied=facts.flag("tie_word_embeddings", default=True),
        encoder=decoder,
        decoder=decoder,
        positions=facts.integer("max_position_embeddings"),
    )
    if task(facts, "causal_lm") != "causal_lm":
        return seq2seq(facts, s, None)
    learned = facts.flag("use_learned_position_embeddings")
    rows = facts.integer("max_position_embeddings") + _POSITION_OFFSET
    weights = [
        *embedding(s.vocab, hidden),
        *(embedding(rows, hidden, role="embed_positions") if learned else []),
        *attentions(s, _ATTENTION, count=decoder.layers, bias=True),
        *_crossing(s, facts.optional_integer("cross_attention_hidden_size") or hidden),
        *networks(s, decoder, ("fc1", "fc2"), bias=True),
        *norm(hidden, count=3 * decoder.layers + facts.flag("layernorm_embedding"), bias=True),
    ]
    return seq2seq(facts, s, [*weights, *head(s.vocab, hidden, tied=s.tied, role="output_projection")])


def _crossing(s: Stacks, width: int) -> list[TensorGroup]:
    count = s.decoder.layers
    return [
        *linear("attention", "encoder_attn.q_proj", s.hidden, s.hidden, count=count, bias=True),
        *linear("attention", "encoder_attn.k_proj", s.hidden, width, count=count, bias=True),
        *linear("attention", "encoder_attn.v_proj", s.hidden, width, count=count, bias=True),
        *linear("attention", "encoder_attn.out_proj", s.hidden, s.hidden, count=count, bias=True),
    ]
