"""Llama-Nemotron models from neural architecture search: Llama with layers of different sizes, some without attention
or without a feed-forward network (modeling_decilm.py and block_config.py in its repositories)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm
from hfmem.mapper.caches import KV, Nothing
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, layer_count
from hfmem.mapper.families._dialect import GATED
from hfmem.mapper.values import Dense, Layer, TensorGroup

__all__ = ["read"]

_MULTIPLE: Final = 256  # `find_multiple` rounds the intermediate size up to a multiple of this


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """One layer.

    Attributes:
        kv_heads: KV heads; 0 without attention.
        window: sliding window in tokens; None for none.
        inner: intermediate size; 0 without a feed-forward network.
        mixed: whether a linear layer replaces attention.
        plain: whether a linear layer replaces the feed-forward network.
    """

    kv_heads: int
    window: int | None
    inner: int
    mixed: bool
    plain: bool


def read(facts: Facts) -> Blueprint:
    """Layers and weights; 49,867,145,216 parameters for the 49B model."""
    facts = facts.alone()
    hidden, heads = facts.integer("hidden_size"), facts.integer("num_attention_heads")
    head_dim = facts.integer("head_dim", default=hidden // heads)
    blocks = _blocks(facts, hidden, heads)
    first = next((block.kv_heads for block in blocks if block.kv_heads), heads)
    s = Sizes(
        hidden=hidden,
        layers=len(blocks),
        heads=heads,
        kv_heads=first,
        head_dim=head_dim,
        vocab=facts.integer("vocab_size"),
        tied=facts.flag("tie_word_embeddings"),
    )
    weights = embedding(s.vocab, s.hidden)
    for block in dict.fromkeys(blocks):
        weights += _weights(facts, s, block, blocks.count(block))
    weights += norm(s.hidden)
    return decoder(facts, s, weights, tuple(_layer(s, block) for block in blocks))


def _blocks(facts: Facts, hidden: int, heads: int) -> tuple[_Block, ...]:
    listed = facts.items("block_configs")
    if listed is None:
        raise MissingFactError("block_configs")
    if len(listed) != layer_count(facts):
        raise InvalidConfigError("", f"block_configs has {len(listed)} entries for {layer_count(facts)} layers")
    return tuple(_block(block, hidden, heads) for block in listed)


def _block(block: Any, hidden: int, heads: int) -> _Block:
    parts = [block.get(key) if isinstance(block, Mapping) else None for key in ("attention", "ffn")]
    if not all(isinstance(part, Mapping) for part in parts):
        raise InvalidConfigError("", "block_configs has an entry without attention and ffn")
    attention, network = (Facts(part, path="block_configs.") for part in parts if isinstance(part, Mapping))
    attends = not (attention.flag("no_op") or attention.flag("replace_with_linear"))
    computes = not (network.flag("no_op") or network.flag("replace_with_linear"))
    return _Block(
        kv_heads=heads // attention.integer("n_heads_in_group") if attends else 0,
        window=attention.optional_integer("window_length") if attends else None,
        inner=_inner(network, hidden) if computes else 0,
        mixed=attention.flag("replace_with_linear"),
        plain=network.flag("replace_with_linear"),
    )


def _inner(network: Facts, hidden: int) -> int:
    """The intermediate size, from `ffn_mult` (`_ffn_mult_to_intermediate_size`); newer files state it directly."""
    units = network.optional_integer("intermediate_size")
    if units is not None:
        return units
    # 2 / 3, as in Llama: a gated network has three matrices instead of two
    units = int(2 * network.number("ffn_mult") * hidden / 3)
    return -(-units // _MULTIPLE) * _MULTIPLE


def _weights(facts: Facts, s: Sizes, block: _Block, count: int) -> list[TensorGroup]:
    """The weights of `count` equal layers. Layers without attention or without a network lack its norm too."""
    groups: list[TensorGroup] = []
    bias = facts.flag("attention_bias")
    if block.kv_heads:
        width = block.kv_heads * s.head_dim
        groups += linear("attention", "q_proj", s.query, s.hidden, count=count, bias=bias)
        groups += linear("attention", "k_proj", width, s.hidden, count=count, bias=bias)
        groups += linear("attention", "v_proj", width, s.hidden, count=count, bias=bias)
        groups += linear("attention", "o_proj", s.hidden, s.query, count=count, bias=bias)
    if block.mixed:
        groups += linear("attention", "linear_attn", s.hidden, s.hidden, count=count, bias=bias)
    if block.inner:
        groups += feed_forward((s.hidden, block.inner), GATED, count=count, bias=facts.flag("mlp_bias"))
    if block.plain:
        groups += linear("mlp", "linear_mlp", s.hidden, s.hidden, count=count, bias=facts.flag("mlp_bias"))
    norms = bool(block.kv_heads or block.mixed) + bool(block.inner or block.plain)
    return groups + norm(s.hidden, count=norms * count)


def _layer(s: Sizes, block: _Block) -> Layer:
    ffn = Dense(intermediate=block.inner, gated=True) if block.inner else None
    if not block.kv_heads:
        return Layer(kind="none", cache=Nothing(), heads=0, ffn=ffn)
    cache = KV(heads=block.kv_heads, key_dim=s.head_dim, value_dim=s.head_dim, window=block.window)
    kind = "full_attention" if block.window is None else "sliding_attention"
    return Layer(kind=kind, cache=cache, heads=s.heads, ffn=ffn)
