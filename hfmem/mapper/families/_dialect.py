"""How decoders related to Llama differ from it: one `Dialect` per model type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hfmem.mapper.blueprint import embedding, linear, norm
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import (
    Schedule,
    Sizes,
    all_sliding,
    fused_attention,
    separate_attention,
    sizes,
)
from hfmem.mapper.families._heads import Output
from hfmem.mapper.values import TensorGroup

__all__ = ["GATED", "Dialect", "Flag", "QkNorm", "attention", "flag", "norms", "output_of", "sizes_of"]

Flag = bool | str
"""True, False, or the config key of a flag."""

QkNorm = Literal["none", "head", "whole", "each head"]
"""Norms of queries and keys: none; one of size `head_dim` shared by all heads; one over all heads; one per head."""

GATED = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A type's differences from Llama, which has pre-norm RMSNorm, rotary positions, grouped-query attention, and a
    gated feed-forward network without biases.

    Attributes:
        qkv_bias, out_bias, mlp_bias, head_bias: biases of the projections and of the LM head.
        fused: whether query, key and value projections are one matrix.
        names: names of the attention projections; of the fused and the output projection where `fused`.
        mlp: names of the feed-forward projections, the down projection last.
        qk_norm: norms of queries and keys, present if `qk_flag`.
        qk_bias: whether these norms have a bias.
        norms: number of norms of the hidden size per layer.
        norm_bias: True for LayerNorm with a bias, False for RMSNorm.
        norm_weight: False where norms have no parameters at all (OLMo).
        square_out: whether the output projection is hidden × hidden, even if heads × head_dim differs.
        head_dim: False where it is always hidden size / heads, even if the file has `head_dim`.
        schedule: which layers use a sliding window.
        more: further parameters of all layers.
    """

    qkv_bias: Flag = False
    out_bias: Flag = False
    mlp_bias: Flag = False
    head_bias: Flag = False
    fused: bool = False
    names: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    mlp: tuple[str, ...] = GATED
    qk_norm: QkNorm = "none"
    qk_flag: Flag = True
    qk_bias: bool = False
    norms: int | Callable[[Facts], int] = 2
    norm_bias: bool = False
    norm_weight: bool = True
    square_out: bool = False
    head_dim: bool = True
    schedule: Schedule = all_sliding
    more: Callable[[Facts, Sizes], list[TensorGroup]] = lambda _, __: []


def flag(facts: Facts, value: Flag) -> bool:
    """The value of a dialect's flag for this config."""
    return facts.flag(value) if isinstance(value, str) else value


def sizes_of(facts: Facts, dialect: Dialect) -> Sizes:
    """The sizes, with `head_dim` as the dialect defines it."""
    if dialect.head_dim:
        return sizes(facts)
    return sizes(facts, head_dim=facts.integer("hidden_size") // facts.integer("num_attention_heads"))


def attention(facts: Facts, s: Sizes, dialect: Dialect) -> list[TensorGroup]:
    """Token embedding, attention and the norms of queries and keys of all layers."""
    build = fused_attention if dialect.fused else separate_attention
    groups = embedding(s.vocab, s.hidden) + build(
        s, dialect.names, bias=flag(facts, dialect.qkv_bias), out_bias=flag(facts, dialect.out_bias)
    )
    if dialect.square_out:
        groups = [group for group in groups if group.role != dialect.names[-1]]
        groups += linear("attention", dialect.names[-1], s.hidden, s.hidden, count=s.layers)
    if flag(facts, dialect.qk_flag):
        groups += _qk_norms(s, dialect)
    return groups + dialect.more(facts, s)


def norms(facts: Facts, s: Sizes, dialect: Dialect) -> list[TensorGroup]:
    """The norms of all layers and the final one."""
    if not dialect.norm_weight:
        return []
    a_layer = dialect.norms if isinstance(dialect.norms, int) else dialect.norms(facts)
    return norm(s.hidden, count=a_layer * s.layers + 1, bias=dialect.norm_bias)


def output_of(facts: Facts, s: Sizes, dialect: Dialect) -> Output:
    """The output layer of the dialect."""
    return Output(width=s.hidden, vocab=s.vocab, tied=s.tied, bias=flag(facts, dialect.head_bias))


def _qk_norms(s: Sizes, dialect: Dialect) -> list[TensorGroup]:
    if dialect.qk_norm == "none":
        return []
    if dialect.qk_norm == "head":
        return norm(s.head_dim, count=2 * s.layers, bias=dialect.qk_bias, role="qk_norm")
    query, key = (s.query, s.kv) if dialect.qk_norm == "whole" else (s.head_dim, s.head_dim)
    heads, kv_heads = (1, 1) if dialect.qk_norm == "whole" else (s.heads, s.kv_heads)
    return [
        *norm(query, count=s.layers * heads, bias=dialect.qk_bias, role="q_norm"),
        *norm(key, count=s.layers * kv_heads, bias=dialect.qk_bias, role="k_norm"),
    ]
