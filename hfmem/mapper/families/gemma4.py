"""Gemma 3n and Gemma 4: layers that share an earlier layer's KV cache, per-layer embeddings, and different sizes in
sliding-window and full-attention layers (modeling_gemma3n.py, modeling_gemma4.py, modeling_gemma4_unified.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, experts, linear, norm, router, weight
from hfmem.mapper.caches import KV, Cache, Shared
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, own_facts, sizes
from hfmem.mapper.families._dialect import GATED
from hfmem.mapper.families._heads import Output
from hfmem.mapper.values import Dense, Experts, Ffn, Layer, TensorGroup

__all__ = ["read"]

_FULL, _SLIDING = "full_attention", "sliding_attention"

# The class's default `global_head_dim`, used in full-attention layers (configuration_gemma4.py).
_GLOBAL_HEAD_DIM = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attention:
    """One layer's attention; `keys_only`: without a value projection; `shared`: without key and value projections."""

    sliding: bool
    heads: int
    kv_heads: int
    head_dim: int
    shared: bool
    keys_only: bool


def read(facts: Facts) -> Blueprint:
    """Layers and weights of the text model."""
    s = sizes(facts)
    parts = list(_attentions(facts, s))
    ffns, networks = _networks(facts, s, parts)
    bias = facts.flag("attention_bias")
    weights = [*embedding(s.vocab, s.hidden), *_projections(s, parts, bias=bias), *networks, *_a_layer(facts, s)]
    layers = tuple(_layers(facts, parts, ffns))
    return decoder(facts, s, weights, layers, Output(width=s.hidden, vocab=s.vocab, tied=s.tied))


def _attentions(facts: Facts, s: Sizes) -> Iterable[_Attention]:
    kinds = _kinds(facts, s.layers)
    alone = s.layers - facts.integer("num_kv_shared_layers", default=0)
    same = facts.flag("attention_k_eq_v")
    for index, kind in enumerate(kinds):
        sliding = kind == _SLIDING
        kv_heads, head_dim = _sizes(facts, s, index, full=not sliding)
        yield _Attention(
            sliding=sliding,
            heads=s.heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            shared=index >= alone,
            keys_only=same and not sliding,
        )


def _sizes(facts: Facts, s: Sizes, index: int, *, full: bool) -> tuple[int, int]:
    """KV heads and head_dim of a layer: from `per_layer_config`, else those of its kind (`full` or sliding window)."""
    listed = facts.part("per_layer_config")
    if listed is not None:
        own = own_facts(listed, index)
        return own.integer("num_key_value_heads", default=s.kv_heads), own.integer("head_dim", default=s.head_dim)
    if not full or _is_3n(facts):
        return s.kv_heads, s.head_dim
    heads = facts.integer("num_global_key_value_heads", default=s.kv_heads)
    size = facts.integer("global_head_dim", default=_GLOBAL_HEAD_DIM)
    return heads if facts.flag("attention_k_eq_v") else s.kv_heads, size


def _is_3n(facts: Facts) -> bool:
    return facts.model_type == "gemma3n_text"


def _kinds(facts: Facts, layers: int) -> Sequence[str]:
    listed = facts.items("layer_types")
    if listed is None:
        period = 5 if _is_3n(facts) else 6
        kinds = [_FULL if (index + 1) % period == 0 else _SLIDING for index in range(layers)]
    else:
        kinds = [str(kind) for kind in listed]
    if len(kinds) != layers or not {_FULL, _SLIDING}.issuperset(kinds):
        raise InvalidConfigError("", f"layer_types does not say {_FULL} or {_SLIDING} for each of {layers} layers")
    if kinds and not _is_3n(facts):
        kinds[-1] = _FULL  # Gemma4TextConfig overrides the last entry
    return kinds


def _projections(s: Sizes, parts: Sequence[_Attention], *, bias: bool) -> list[TensorGroup]:
    groups: list[TensorGroup] = []
    for part, count in Counter(parts).items():
        query, kv = part.heads * part.head_dim, part.kv_heads * part.head_dim
        groups += linear("attention", "q_proj", query, s.hidden, count=count, bias=bias)
        groups += linear("attention", "o_proj", s.hidden, query, count=count, bias=bias)
        groups += norm(part.head_dim, count=count, role="q_norm")
        if part.shared:
            continue
        groups += norm(part.head_dim, count=count, role="k_norm")
        groups += linear("attention", "k_proj", kv, s.hidden, count=count, bias=bias)
        if not part.keys_only:
            groups += linear("attention", "v_proj", kv, s.hidden, count=count, bias=bias)
    return groups


def _networks(facts: Facts, s: Sizes, parts: Sequence[_Attention]) -> tuple[list[Ffn], list[TensorGroup]]:
    """Each layer's feed-forward network, and all weights. Layers with experts have a dense network too, which every
    token uses."""
    widths = _widths(facts, parts)
    groups: list[TensorGroup] = []
    for width, count in Counter(widths).items():
        groups += feed_forward((s.hidden, width), GATED, count=count)
    if not facts.flag("enable_moe_block"):
        sparse = _sparse(facts, s.layers)
        dense = [Dense(intermediate=width, gated=True, sparse=few) for width, few in zip(widths, sparse, strict=True)]
        return list(dense), groups
    count, used, inner = (facts.integer(key) for key in ("num_experts", "top_k_experts", "moe_intermediate_size"))
    groups += router(count, s.hidden, count=s.layers)
    groups += weight("router", "scale", s.hidden, count=s.layers)
    groups += weight("router", "per_expert_scale", count, count=s.layers)
    groups += experts("gate_up_proj", count, used, 2 * inner, s.hidden, layers=s.layers)
    groups += experts("down_proj", count, used, s.hidden, inner, layers=s.layers)
    groups += norm(s.hidden, count=3 * s.layers)
    mixed = [Experts(count=count, per_token=used, intermediate=inner, shared=width) for width in widths]
    return list(mixed), groups


_SPARSE_FIRST = 10
"""Default number of leading layers with sparse activations (configuration_gemma3n.py)."""


def _sparse(facts: Facts, layers: int) -> list[bool]:
    """Whether each layer's network has sparse activations, which keep only the largest units (Gemma 3n)."""
    if not _is_3n(facts):
        return [False] * layers
    listed = facts.items("activation_sparsity_pattern")
    if listed is None:
        return [index < _SPARSE_FIRST < layers for index in range(layers)]
    if len(listed) != layers:
        raise InvalidConfigError("", f"activation_sparsity_pattern has {len(listed)} entries for {layers} layers")
    return [bool(share) for share in listed]


def _widths(facts: Facts, parts: Sequence[_Attention]) -> list[int]:
    """Intermediate size of each layer's dense network: one for all, or one per layer (Gemma 3n); doubled in layers with
    a shared cache if `use_double_wide_mlp`."""
    given = facts.integers("intermediate_size")
    if len(given) not in (1, len(parts)):
        raise InvalidConfigError("", f"intermediate_size has {len(given)} entries for {len(parts)} layers")
    widths = list(given) * (1 if len(given) == len(parts) else len(parts))
    if not facts.flag("use_double_wide_mlp"):
        return widths
    return [2 * width if part.shared else width for width, part in zip(widths, parts, strict=True)]


def _a_layer(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """Norms, and the per-layer embeddings of Gemma 3n and 4."""
    groups = norm(s.hidden, count=4 * s.layers + 1)
    per_layer = facts.integer("hidden_size_per_layer_input", default=0)
    if per_layer:
        rows = facts.integer("vocab_size_per_layer_input")
        groups += [
            *embedding(rows, s.layers * per_layer, role="embed_tokens_per_layer"),
            *linear("other", "per_layer_model_projection", s.layers * per_layer, s.hidden),
            *norm(per_layer),
            *linear("mlp", "per_layer_input_gate", per_layer, s.hidden, count=s.layers),
            *linear("mlp", "per_layer_projection", s.hidden, per_layer, count=s.layers),
            *norm(s.hidden, count=s.layers),
        ]
    return groups + (_altup(facts, s) if _is_3n(facts) else [])


def _altup(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """AltUp (several residual streams, of which one is computed and the others are predicted) and LAuReL (a low-rank
    path parallel to each layer): Gemma3nTextAltUp, Gemma3nTextLaurelBlock."""
    streams, rank = facts.integer("altup_num_inputs"), facts.integer("laurel_rank")
    return [
        *weight("other", "correct_output_scale", s.hidden, count=s.layers),
        *linear("other", "correction_coefs", streams, streams, count=s.layers),
        *linear("other", "prediction_coefs", streams**2, streams, count=s.layers),
        *linear("other", "modality_router", streams, s.hidden, count=s.layers),
        *norm(s.hidden, count=2 * s.layers),
        *linear("mlp", "linear_left", rank, s.hidden, count=s.layers),
        *linear("mlp", "linear_right", s.hidden, rank, count=s.layers),
        # the first stream is the embedding itself; the others are projected from it, and back at the end
        *linear("other", "altup_projections", s.hidden, s.hidden, count=2 * (streams - 1)),
    ]


def _layers(facts: Facts, parts: Sequence[_Attention], ffns: Sequence[Ffn]) -> Iterable[Layer]:
    window = facts.optional_integer("sliding_window")
    if window is not None and not _is_3n(facts) and facts.text("use_bidirectional_attention") == "all":
        window = window // 2 + 1  # bidirectional windows extend to both sides
    for part, ffn in zip(parts, ffns, strict=True):
        own = KV(
            heads=part.kv_heads,
            key_dim=part.head_dim,
            value_dim=part.head_dim,
            window=(window or None) if part.sliding else None,
        )
        cache: Cache = Shared(source=own) if part.shared else own
        kind = "shared" if part.shared else _SLIDING if part.sliding else _FULL
        yield Layer(kind=kind, cache=cache, heads=part.heads, ffn=ffn)
