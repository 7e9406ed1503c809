"""DeepSeek-V2, -V3 and related models: multi-head latent attention (MLA), mostly with experts after the first layers;
since V3.2 with an indexer that selects the tokens to attend to (sparse attention).

Weights follow `modeling_<type>.py`. The cache in transformers 5.23 holds the latent and the rope part, and the
indexer's keys in layers that have an indexer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm, weight
from hfmem.mapper.caches import Cache, Indexed, Latent
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, sizes
from hfmem.mapper.families._dialect import GATED, Flag, flag
from hfmem.mapper.families._mixture import DEEPSEEK, Mixture, after_the_first, by_type, mixture
from hfmem.mapper.values import Dense, Ffn, Layer, TensorGroup

__all__ = [
    "LATENTS",
    "LatentDialect",
    "indexers",
    "latent_attention",
    "latent_cache",
    "latent_sizes",
    "read",
    "read_latent",
    "shared_indexers",
]

More = Callable[[Facts, Sizes, int], list[TensorGroup]]


def _nothing(_: Facts, __: Sizes, ___: int) -> list[TensorGroup]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentDialect:
    """How a type differs from DeepSeek-V3.

    Attributes:
        mixed: its experts; None for a dense model.
        mlp_bias: biases of the feed-forward networks.
        indexer: which layers have an indexer; None for no layer.
        expanded: whether the cache holds keys and values of all heads in place of the latent.
        gated_queries: whether the second query projection has twice the low rank as input, and also computes the
            output gate (A.X-K2).
        more: further parameters; its last argument is the number of layers with experts.
    """

    mixed: Mixture | None = DEEPSEEK
    mlp_bias: Flag = False
    indexer: Callable[[Facts, int], Sequence[bool]] | None = None
    expanded: bool = False
    gated_queries: bool = False
    more: More = _nothing


def _first_dense(_: Facts, layers: int) -> Sequence[bool]:
    """All layers but the first (configuration_glm4_moe_lite.py, configuration_hy_v4.py)."""
    return [index > 0 for index in range(layers)]


def _each_freq(facts: Facts, layers: int) -> Sequence[bool]:
    """Each `moe_layer_freq`-th layer from `first_k_dense_replace` on (configuration_axk1.py)."""
    first, step = facts.integer("first_k_dense_replace", default=1), facts.integer("moe_layer_freq", default=1)
    return [index >= first and index % step == 0 for index in range(layers)]


def _all(_: Facts, layers: int) -> Sequence[bool]:
    return (True,) * layers


def _listed(facts: Facts, layers: int) -> Sequence[bool] | None:
    kinds = facts.items("indexer_types")
    if kinds is not None and len(kinds) != layers:
        raise InvalidConfigError("", f"indexer_types has {len(kinds)} entries for {layers} layers")
    return None if kinds is None else [kind == "full" for kind in kinds]


def shared_indexers(facts: Facts, layers: int) -> Sequence[bool]:
    """Which layers have an indexer of their own: from `indexer_types`, else a pattern of F (full) and S (shared), else
    a frequency and an offset (configuration_glm_moe_dsa.py)."""
    listed = _listed(facts, layers)
    if listed is not None:
        return listed
    if facts.has("index_topk_pattern"):
        found = [kind in ("f", "full") for word in facts.words("index_topk_pattern") for kind in _letters(word)]
        if len(found) != layers:
            raise InvalidConfigError("", f"index_topk_pattern has {len(found)} entries for {layers} layers")
        return found
    step = max(facts.integer("index_topk_freq", default=1), 1)
    offset = facts.integer("index_skip_topk_offset", default=2)
    # max: every layer before the offset has its own indexer
    return [max(index - offset + 1, 0) % step == 0 for index in range(layers)]


def _letters(word: str) -> Sequence[str]:
    return (word,) if word in ("full", "shared") else tuple(word)


def _each_fourth_indexer(facts: Facts, layers: int) -> Sequence[bool]:
    """From `indexer_types`, else layers 0, 1, 5, 9, … (configuration_hy_v4.py)."""
    listed = _listed(facts, layers)
    return [index == 0 or (index - 1) % 4 == 0 for index in range(layers)] if listed is None else listed


def _norms_after_experts(_: Facts, s: Sizes, sparse: int) -> list[TensorGroup]:
    return norm(s.hidden, count=sparse, role="post_mlp_layernorm")


def _gated_norms(facts: Facts, s: Sizes, sparse: int) -> list[TensorGroup]:
    """The low-rank gates of the norms before attention and before experts (AXK2GatedRMSNorm)."""
    rank, count = facts.integer("gated_norm_rank"), s.layers + sparse
    return [
        *weight("norm", "mlp.fc1", rank, s.hidden, count=count),
        *weight("norm", "mlp.fc2", s.hidden, rank, count=count),
    ]


def _gates_and_streams(facts: Facts, s: Sizes, _: int) -> list[TensorGroup]:
    """Output gates, attention sinks, and hyper-connections of several residual streams (modeling_hy_v4.py)."""
    streams, value = facts.integer("hc_mult"), facts.integer("v_head_dim")
    return [
        *linear("attention", "gate_proj", s.heads * value, s.hidden, count=s.layers),
        *weight("attention", "sinks", s.heads, count=s.layers),
        *weight("other", "hc.fn", 2 * streams, streams * s.hidden, count=2 * s.layers),
        *weight("other", "hc.base", 2 * streams, count=2 * s.layers),
        *weight("other", "hc.scale", 2, count=2 * s.layers),
        *weight("other", "hc_head.hc_fn", streams, streams * s.hidden),
        *weight("other", "hc_head.hc_base", streams),
        *weight("other", "hc_head.hc_scale", 1),
    ]


_DSA = LatentDialect(mixed=replace(DEEPSEEK, sparse=by_type(after_the_first)))
LATENTS: Final[dict[str, LatentDialect]] = {
    "axk1": LatentDialect(mixed=replace(DEEPSEEK, sparse=by_type(_each_freq)), more=_norms_after_experts),
    "axk2": LatentDialect(
        mixed=replace(DEEPSEEK, sparse=by_type(_each_freq)), indexer=_all, gated_queries=True, more=_gated_norms
    ),
    "deepseek_v2": LatentDialect(mlp_bias="mlp_bias"),
    "deepseek_v3": LatentDialect(),
    "deepseek_v32": replace(_DSA, indexer=_all),
    "glm4_moe_lite": LatentDialect(mixed=replace(DEEPSEEK, sparse=by_type(_first_dense))),
    "glm_moe_dsa": replace(_DSA, indexer=shared_indexers),
    "hy_v4": LatentDialect(
        mixed=replace(DEEPSEEK, sparse=by_type(_first_dense)), indexer=_each_fourth_indexer, more=_gates_and_streams
    ),
    # remote code of Kimi-K2 (modeling_deepseek.py): the cache holds keys and values of all heads
    "kimi_k2": LatentDialect(expanded=True),
    "minicpm3": LatentDialect(mixed=None, mlp_bias="mlp_bias"),
    "mistral4": LatentDialect(),
    "youtu": LatentDialect(mixed=None),
}


def read(facts: Facts) -> Blueprint:
    """Layers and weights of a decoder with latent attention."""
    return read_latent(facts, LATENTS[facts.model_type])


def read_latent(facts: Facts, dialect: LatentDialect) -> Blueprint:
    """Layers and weights of a decoder with latent attention, for a given dialect."""
    s = latent_sizes(facts)
    ffns, networks = _networks(facts, s, dialect)
    indexed = (False,) * s.layers if dialect.indexer is None else dialect.indexer(facts, s.layers)
    sparse = sum(not isinstance(ffn, Dense) for ffn in ffns)
    weights = [
        *embedding(s.vocab, s.hidden),
        *latent_attention(facts, s, gated=dialect.gated_queries),
        *(indexers(facts, s, sum(indexed)) if any(indexed) else ()),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 1),
        *dialect.more(facts, s, sparse),
    ]
    kind = "full_attention" if dialect.indexer is None else "indexed_attention"
    plain = latent_cache(facts, s, expanded=dialect.expanded)
    layers = tuple(
        Layer(kind=kind, cache=_with_indexer(facts, plain) if has else plain, heads=s.heads, ffn=ffn)
        for has, ffn in zip(indexed, ffns, strict=True)
    )
    return decoder(facts, s, weights, layers)


def latent_sizes(facts: Facts) -> Sizes:
    """Sizes. The latent is expanded to one key and value per query head, so KV heads equal query heads."""
    head_dim = facts.integer("qk_nope_head_dim") + facts.integer("qk_rope_head_dim")
    s = sizes(facts, head_dim=head_dim)
    return replace(s, kv_heads=s.heads)


def latent_cache(facts: Facts, s: Sizes, *, expanded: bool = False) -> Latent:
    """The cache of one layer."""
    return Latent(
        rank=facts.integer("kv_lora_rank"),
        rope_dim=facts.integer("qk_rope_head_dim"),
        heads=s.heads,
        key_dim=s.head_dim,
        value_dim=_value_dim(facts, s),
        expanded=expanded,
    )


def latent_attention(facts: Facts, s: Sizes, *, gated: bool = False) -> list[TensorGroup]:
    """Query projections (low-rank if `q_lora_rank` is set), keys and values through the latent, and the output."""
    rank, rope = facts.integer("kv_lora_rank"), facts.integer("qk_rope_head_dim")
    value = _value_dim(facts, s)
    expanded = s.heads * (facts.integer("qk_nope_head_dim") + value)
    bias = facts.flag("attention_bias")
    return [
        *(_gated_queries(facts, s, bias) if gated else _queries(facts, s, bias)),
        *linear("attention", "kv_a_proj_with_mqa", rank + rope, s.hidden, count=s.layers, bias=bias),
        *norm(rank, count=s.layers, role="kv_a_layernorm"),
        *linear("attention", "kv_b_proj", expanded, rank, count=s.layers),
        *linear("attention", "o_proj", s.hidden, s.heads * value, count=s.layers, bias=bias),
    ]


def _value_dim(facts: Facts, s: Sizes) -> int:
    """Size of a value head; MiniCPM3 defaults to hidden size / heads (configuration_minicpm3.py)."""
    if facts.model_type == "minicpm3":
        return facts.integer("v_head_dim", default=s.hidden // s.heads)
    return facts.integer("v_head_dim")


def _queries(facts: Facts, s: Sizes, bias: bool) -> list[TensorGroup]:
    rank = facts.optional_integer("q_lora_rank")
    if rank is None:
        return linear("attention", "q_proj", s.query, s.hidden, count=s.layers)
    return [
        *linear("attention", "q_a_proj", rank, s.hidden, count=s.layers, bias=bias),
        *norm(rank, count=s.layers, role="q_a_layernorm"),
        *linear("attention", "q_b_proj", s.query, rank, count=s.layers),
    ]


def _gated_queries(facts: Facts, s: Sizes, bias: bool) -> list[TensorGroup]:
    rank = facts.integer("q_lora_rank")
    outputs = s.query + s.heads * facts.integer("v_head_dim")
    return [
        *linear("attention", "q_a_proj", rank, s.hidden, count=s.layers, bias=bias),
        *norm(rank, count=s.layers, role="q_a_layernorm"),
        *linear("attention", "q_gate_proj", outputs, 2 * rank, count=s.layers),
    ]


def indexers(facts: Facts, s: Sizes, count: int) -> list[TensorGroup]:
    """`count` indexers (DeepseekV32Indexer), with the low-rank queries and the hidden states as inputs."""
    size, heads = facts.integer("index_head_dim"), facts.integer("index_n_heads")
    return [
        *linear("attention", "indexer.wq_b", heads * size, facts.integer("q_lora_rank"), count=count),
        *linear("attention", "indexer.wk", size, s.hidden, count=count),
        *norm(size, count=count, bias=True, role="indexer.k_norm"),
        *linear("attention", "indexer.weights_proj", heads, s.hidden, count=count),
    ]


def _with_indexer(facts: Facts, cache: Cache) -> Indexed:
    return Indexed(attention=cache, index_dim=facts.integer("index_head_dim"))


def _networks(facts: Facts, s: Sizes, dialect: LatentDialect) -> tuple[Sequence[Ffn], list[TensorGroup]]:
    if dialect.mixed is not None:
        return mixture(facts, replace(dialect.mixed, mlp_bias=dialect.mlp_bias), s.hidden, s.layers)
    inner = facts.integer("intermediate_size")
    bias = flag(facts, dialect.mlp_bias)
    groups = feed_forward((s.hidden, inner), GATED, count=s.layers, bias=bias)
    return (Dense(intermediate=inner, gated=True),) * s.layers, groups
