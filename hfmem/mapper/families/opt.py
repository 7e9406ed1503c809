"""OPT: learned positions, biases, and in OPT-350m an embedding smaller than the hidden size."""

from __future__ import annotations

from hfmem.mapper.blueprint import Blueprint, embedding, norm, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import decoder, feed_forward, layers_of, separate_attention, sizes
from hfmem.mapper.families._heads import Output
from hfmem.mapper.values import Dense

__all__ = ["read"]

# modeling_opt.py: OPTLearnedPositionalEmbedding has two extra rows.
_POSITION_OFFSET = 2


def read(facts: Facts) -> Blueprint:
    """Layers and weights (modeling_opt.py)."""
    hidden, heads = facts.integer("hidden_size"), facts.integer("num_attention_heads")
    s = sizes(facts, kv_heads=heads, head_dim=hidden // heads)
    inner = facts.integer("ffn_dim")
    bias = facts.flag("enable_bias")
    width = facts.integer("word_embed_proj_dim", default=s.hidden)
    final = facts.flag("do_layer_norm_before") and not facts.flag("_remove_final_layer_norm")
    projections = int(width != s.hidden)
    affine = facts.flag("layer_norm_elementwise_affine")
    weights = [
        *embedding(s.vocab, width),
        *embedding(facts.integer("max_position_embeddings") + _POSITION_OFFSET, s.hidden, role="embed_positions"),
        *weight("embedding", "project_in", s.hidden, width, count=projections),
        *separate_attention(s, ("q_proj", "k_proj", "v_proj", "out_proj"), bias=bias, out_bias=bias),
        *feed_forward((s.hidden, inner), ("fc1", "fc2"), count=s.layers, bias=bias),
        *norm(s.hidden, count=(2 * s.layers + final) * affine, bias=True),  # without affine, norms have no weights
        *weight("lm_head", "project_out", width, s.hidden, count=projections),
    ]
    layers = layers_of(facts, s, Dense(intermediate=inner, gated=False))
    return decoder(facts, s, weights, layers, Output(width=width, vocab=s.vocab, tied=s.tied))
