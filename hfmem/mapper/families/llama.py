"""Llama and its close relatives: pre-norm RMSNorm, rotary positions, grouped-query attention, gated feed-forward.

Differences between them are flags of the configuration, so one reader serves all.
"""

from __future__ import annotations

from hfmem.mapper.blueprint import Blueprint, embedding, head, linear, norm
from hfmem.mapper.facts import Facts
from hfmem.mapper.values import KV, Architecture, Dense, Layer, TensorGroup

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers and weights of a Llama-like decoder."""
    hidden = facts.integer("hidden_size")
    layers = facts.integer("num_hidden_layers")
    heads = facts.integer("num_attention_heads")
    kv_heads = facts.integer("num_key_value_heads", default=heads)
    head_dim = facts.integer("head_dim", default=hidden // heads)
    intermediate = facts.integer("intermediate_size")
    vocab = facts.integer("vocab_size")
    tied = facts.flag("tie_word_embeddings")
    bias = facts.flag("attention_bias")
    mlp_bias = facts.flag("mlp_bias")
    groups: list[TensorGroup] = [
        *embedding(vocab, hidden),
        *linear("attention", "q_proj", heads * head_dim, hidden, count=layers, bias=bias),
        *linear("attention", "k_proj", kv_heads * head_dim, hidden, count=layers, bias=bias),
        *linear("attention", "v_proj", kv_heads * head_dim, hidden, count=layers, bias=bias),
        *linear("attention", "o_proj", hidden, heads * head_dim, count=layers, bias=bias),
        *linear("mlp", "gate_proj", intermediate, hidden, count=layers, bias=mlp_bias),
        *linear("mlp", "up_proj", intermediate, hidden, count=layers, bias=mlp_bias),
        *linear("mlp", "down_proj", hidden, intermediate, count=layers, bias=mlp_bias),
        *norm(hidden, count=2 * layers + 1),
        *head(vocab, hidden, tied=tied),
    ]
    layer = Layer(
        kind="full_attention",
        cache=KV(heads=kv_heads, key_dim=head_dim, value_dim=head_dim),
        heads=heads,
        ffn=Dense(intermediate=intermediate, gated=True),
    )
    return Blueprint(
        architecture=Architecture(
            model_type=facts.model_type,
            hidden_size=hidden,
            vocab_size=vocab,
            max_positions=facts.optional_integer("max_position_embeddings"),
            tied_embeddings=tied,
            attention_heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            intermediate_size=intermediate,
            layers=(layer,) * layers,
            head="lm_head",
        ),
        groups=tuple(groups),
    )
