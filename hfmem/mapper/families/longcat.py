"""LongCat-Flash: each layer has two attention modules, two dense networks, and experts, some of which are identity
("zero") experts (configuration_longcat_flash.py, modeling_longcat_flash.py)."""

from __future__ import annotations

from dataclasses import replace

from hfmem.mapper.blueprint import Blueprint, embedding, experts, norm, router
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, feed_forward, layer_count
from hfmem.mapper.families._dialect import GATED
from hfmem.mapper.families.deepseek import latent_attention, latent_cache
from hfmem.mapper.values import Dense, Experts, Ffn, Layer, TensorGroup

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers and weights. As in the cache, each attention module counts as a layer of its own here; the first of a pair
    has the experts in addition to its dense network."""
    pairs = layer_count(facts, "num_layers")
    heads = facts.integer("num_attention_heads")
    s = Sizes(
        hidden=facts.integer("hidden_size"),
        layers=2 * pairs,
        heads=heads,
        kv_heads=heads,
        head_dim=facts.integer("qk_nope_head_dim") + facts.integer("qk_rope_head_dim"),
        vocab=facts.integer("vocab_size"),
        tied=facts.flag("tie_word_embeddings"),
    )
    inner = facts.integer("ffn_hidden_size")
    mixed = Experts(
        count=facts.integer("n_routed_experts"),
        per_token=facts.integer("moe_topk"),
        intermediate=facts.integer("expert_ffn_hidden_size"),
        shared=inner,
    )
    weights = [
        *embedding(s.vocab, s.hidden),
        *latent_attention(facts, replace(s, head_dim=facts.integer("qk_head_dim", default=s.head_dim))),
        *feed_forward((s.hidden, inner), GATED, count=s.layers),
        *_experts(facts, s, mixed, pairs),
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    ffns: tuple[Ffn, Ffn] = (mixed, Dense(intermediate=inner, gated=True))
    cache = latent_cache(facts, s)
    layers = tuple(
        Layer(kind="full_attention", cache=cache, heads=heads, ffn=ffn) for _ in range(pairs) for ffn in ffns
    )
    return decoder(facts, s, weights, layers)


def _experts(facts: Facts, s: Sizes, mixed: Experts, layers: int) -> list[TensorGroup]:
    """Experts and routers. The class allocates gate and up projections for zero experts too, but no down projection."""
    idle = facts.integer("zero_expert_num", default=0)
    scored, used = mixed.count + idle, mixed.per_token
    return [
        *router(scored, s.hidden, count=layers, bias=facts.flag("router_bias"), role="classifier"),
        *experts("gate_up_proj", scored, used, 2 * mixed.intermediate, s.hidden, layers=layers),
        *experts("down_proj", mixed.count, used, s.hidden, mixed.intermediate, layers=layers),
    ]
