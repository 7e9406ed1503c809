"""DeepSeek-V4: a short sliding window with shared keys and values, plus compressed entries of earlier tokens
(configuration_deepseek_v4.py, modeling_deepseek_v4.py).

There are three kinds of layer: a sliding window only; a window and one entry per 128 tokens; a window, one overlapping
entry per 4 tokens, and smaller entries of the same tokens for the indexer that selects among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, experts, linear, norm, router, weight
from hfmem.mapper.caches import KV, Cache, Combined, Compressed
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, sizes
from hfmem.mapper.families._dialect import GATED
from hfmem.mapper.values import Experts, Layer, TensorGroup

__all__ = ["read"]

_SLIDING, _SPARSE, _HEAVY = "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"
_RATES: Final = {_SPARSE: 4, _HEAVY: 128}  # `default_compress_rates` of the class
_BY_RATIO: Final = {0: _SLIDING, 4: _SPARSE, 128: _HEAVY}  # `_COMPRESS_RATIO_TO_LAYER_TYPE`


def read(facts: Facts) -> Blueprint:
    """Layers and weights. `deepseek_ref` is the model_type in copies of the files for serving engines."""
    known = facts if facts.model_type == "deepseek_v4" else facts.changed(model_type="deepseek_v4")
    s = sizes(known, kv_heads=1, head_dim=known.integer("head_dim"))
    kinds = _kinds(known, s.layers)
    rates = {kind: _rate(known, kind) for kind in (_SPARSE, _HEAVY)}
    inner, count = known.integer("moe_intermediate_size"), known.integer("n_routed_experts")
    ffn = Experts(
        count=count,
        per_token=known.integer("num_experts_per_tok"),
        intermediate=inner,
        shared=inner,
    )
    weights = [
        *embedding(s.vocab, s.hidden),
        *_attention(known, s),
        *_compressors(s, kinds, rates),
        *_indexers(known, s, kinds.count(_SPARSE), rates[_SPARSE]),
        *_experts(s, ffn, bias=known.flag("mlp_bias")),
        *norm(s.hidden, count=2 * s.layers + 1),
        *_streams(known, s),
    ]
    layers = tuple(Layer(kind=kind, cache=_cache(known, s, kind, rates), heads=s.heads, ffn=ffn) for kind in kinds)
    blueprint = decoder(known, s, weights, layers)
    return replace(blueprint, architecture=replace(blueprint.architecture, model_type=facts.model_type))


def _kinds(facts: Facts, layers: int) -> Sequence[str]:
    """From `layer_types`, else `compress_ratios`, else the class's default. Both lists may also cover the MTP layers,
    which follow the model's own."""
    listed = facts.items("layer_types")
    ratios = facts.items("compress_ratios")
    if listed is not None:
        kinds = [str(kind) for kind in listed]
    elif ratios is not None:
        kinds = [_BY_RATIO.get(ratio, str(ratio)) if isinstance(ratio, int) else str(ratio) for ratio in ratios]
    else:
        kinds = [_HEAVY if index < 2 or index % 2 == 0 else _SPARSE for index in range(layers)]
    unknown = next((kind for kind in kinds[:layers] if kind not in (_SLIDING, *_RATES)), None)
    if unknown is not None or len(kinds) < layers:
        raise InvalidConfigError("", f"layer_types has {unknown or len(kinds)!r} for {layers} layers")
    return kinds[:layers]


def _rate(facts: Facts, kind: str) -> int:
    rates = facts.part("compress_rates")
    rate = _RATES[kind] if rates is None else rates.integer(kind)
    return facts.integer("compress_rate_csa" if kind == _SPARSE else "compress_rate_hca", default=rate)


def _cache(facts: Facts, s: Sizes, kind: str, rates: dict[str, int]) -> Cache:
    """The cache of a layer. Keys and values are one tensor, but layers with only the window store it twice, because
    they use DynamicCache's plain sliding layer."""
    shared = kind != _SLIDING
    window = KV(
        heads=1,
        key_dim=s.head_dim,
        value_dim=0 if shared else s.head_dim,
        window=facts.integer("sliding_window"),
    )
    if not shared:
        return window
    entries = Compressed(dim=s.head_dim, rate=rates[kind], overlapping=kind == _SPARSE)
    if kind == _HEAVY:
        return Combined(caches=(window, entries))
    index = Compressed(
        dim=facts.integer("index_head_dim"), rate=rates[kind], overlapping=True, name="indexer's entries"
    )
    return Combined(caches=(window, entries, index))


def _attention(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """Low-rank queries, one head for keys and values together, and a grouped low-rank output projection."""
    rank, groups, out = facts.integer("q_lora_rank"), facts.integer("o_groups"), facts.integer("o_lora_rank")
    return [
        *linear("attention", "q_a_proj", rank, s.hidden, count=s.layers),
        *norm(rank, count=s.layers, role="q_a_norm"),
        *linear("attention", "q_b_proj", s.query, rank, count=s.layers),
        *linear("attention", "kv_proj", s.head_dim, s.hidden, count=s.layers),
        *norm(s.head_dim, count=s.layers, role="kv_norm"),
        *linear("attention", "o_a_proj", groups * out, s.query // groups, count=s.layers),
        *linear("attention", "o_b_proj", s.hidden, groups * out, count=s.layers),
        *weight("attention", "sinks", s.heads, count=s.layers),
    ]


def _compressors(s: Sizes, kinds: Sequence[str], rates: dict[str, int]) -> list[TensorGroup]:
    """The compressors of attention; those of overlapping entries have twice the output size."""
    groups = []
    for kind, width in ((_HEAVY, s.head_dim), (_SPARSE, 2 * s.head_dim)):
        groups += _compressor(s, "compressor", (width, s.head_dim, rates[kind]), kinds.count(kind))
    return groups


def _compressor(s: Sizes, role: str, shape: tuple[int, int, int], count: int) -> list[TensorGroup]:
    width, entry, rate = shape
    return [
        *linear("attention", f"{role}.kv_proj", width, s.hidden, count=count),
        *linear("attention", f"{role}.gate_proj", width, s.hidden, count=count),
        *weight("attention", f"{role}.position_bias", rate, width, count=count),
        *norm(entry, count=count, role=f"{role}.kv_norm"),
    ]


def _indexers(facts: Facts, s: Sizes, count: int, rate: int) -> list[TensorGroup]:
    size, heads = facts.integer("index_head_dim"), facts.integer("index_n_heads")
    return [
        *_compressor(s, "indexer", (2 * size, size, rate), count),
        *linear("attention", "indexer.q_b_proj", heads * size, facts.integer("q_lora_rank"), count=count),
        *linear("attention", "indexer.weights_proj", heads, s.hidden, count=count),
    ]


def _experts(s: Sizes, ffn: Experts, *, bias: bool) -> list[TensorGroup]:
    """Experts and routers. Hash-routed layers have a router too, as its scores weight the experts in the hash table."""
    return [
        *router(ffn.count, s.hidden, count=s.layers),
        *experts("gate_up_proj", ffn.count, ffn.per_token, 2 * ffn.intermediate, s.hidden, layers=s.layers),
        *experts("down_proj", ffn.count, ffn.per_token, s.hidden, ffn.intermediate, layers=s.layers),
        *feed_forward((s.hidden, ffn.shared), GATED, count=s.layers, bias=bias, component="shared_experts"),
    ]


def _streams(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """Hyper-connections, which mix several residual streams before and after attention and feed-forward network."""
    streams = facts.integer("hc_mult")
    mixes = (2 + streams) * streams
    return [
        # twice per layer: hyper-connections around attention and around the feed-forward network
        *weight("other", "hc.fn", mixes, streams * s.hidden, count=2 * s.layers),
        *weight("other", "hc.base", mixes, count=2 * s.layers),
        *weight("other", "hc.scale", 3, count=2 * s.layers),
        *weight("other", "hc_head.hc_fn", streams, streams * s.hidden),
        *weight("other", "hc_head.hc_base", streams),
        *weight("other", "hc_head.hc_scale", 1),
    ]
