"""GLM-5.3-Flash: Kimi Delta Attention, latent attention with an indexer in every fourth layer, and several residual
streams (configuration_glm5_next.py, modeling_glm5_next.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, norm, weight
from hfmem.mapper.caches import Indexed
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder
from hfmem.mapper.families._mixture import DEEPSEEK, by_type, mixture
from hfmem.mapper.families._states import Keeps, kinds_of, layers_with
from hfmem.mapper.families.deepseek import indexers, latent_attention, latent_cache, latent_sizes, shared_indexers
from hfmem.mapper.families.kimi_linear import delta_attention, delta_of
from hfmem.mapper.values import TensorGroup

__all__ = ["read"]

_LINEAR: Final = "linear_attention"
_INDEXED: Final = "indexed_attention"
_SHARED: Final = "shared_indexer"  # attention over the tokens that an earlier layer's indexer selected
_DENSE: Final = 3

_MIXED: Final = replace(DEEPSEEK, sparse=by_type(lambda _, layers: [index >= _DENSE for index in range(layers)]))


def read(facts: Facts) -> Blueprint:
    """Layers and weights."""
    s = latent_sizes(facts)
    kinds = _kinds(facts, s.layers)
    delta = delta_of(facts, s.heads)
    ffns, networks = mixture(facts, _MIXED, s.hidden, s.layers)
    linear = kinds.count(_LINEAR)
    weights = [
        *embedding(s.vocab, s.hidden),
        *latent_attention(facts, replace(s, layers=s.layers - linear)),
        *_indexers(facts, s, kinds.count(_INDEXED)),
        *delta_attention(delta, s.hidden, linear),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 1),
        *_streams(facts, s),
    ]
    latent = latent_cache(facts, s)
    keeps = {
        _LINEAR: Keeps(cache=delta.cache),
        _INDEXED: Keeps(cache=Indexed(attention=latent, index_dim=_index_dim(facts)), heads=s.heads),
        _SHARED: Keeps(cache=latent, heads=s.heads),
    }
    layers = layers_with(facts, kinds, keeps, ffns)
    named = tuple(replace(one, kind=_INDEXED) if one.heads else one for one in layers)
    found = decoder(facts, s, weights, named)
    return replace(
        found, architecture=replace(found.architecture, state_dtype="float32")
    )  # serving engines keep KDA states in float32


def _kinds(facts: Facts, layers: int) -> Sequence[str]:
    """The kind of each layer, where layers with latent attention have their own indexer or share an earlier one."""
    default = [_INDEXED if index % 4 == 3 else _LINEAR for index in range(layers)]
    kinds = kinds_of(facts, default, (_LINEAR, _INDEXED, "full_attention"))
    if len(kinds) != layers:
        raise InvalidConfigError("", f"layer_types has {len(kinds)} entries for {layers} layers")
    indexed = shared_indexers(facts, layers)
    return [
        _LINEAR if kind == _LINEAR else _INDEXED if own else _SHARED for kind, own in zip(kinds, indexed, strict=True)
    ]


def _index_dim(facts: Facts) -> int:
    """Cached elements per token of an indexer: a key, its pooling gate, and a flag for padding."""
    return 2 * facts.integer("index_head_dim") + 1


def _indexers(facts: Facts, s: Sizes, count: int) -> list[TensorGroup]:
    """Indexers that compress their keys by pooling."""
    size = facts.integer("index_head_dim")
    return [
        *indexers(facts, s, count),
        *weight("attention", "indexer.index_kpool_compress_ape", facts.integer("index_kpool"), size, count=count),
        *weight("attention", "indexer.index_kpool_compress_gate", size, s.hidden, count=count),
    ]


def _streams(facts: Facts, s: Sizes) -> list[TensorGroup]:
    """Hyper-connections of attention and feed-forward networks. The final average of the streams has no weights."""
    streams = facts.integer("hc_mult")
    outputs = (2 + streams) * streams
    return [
        *weight("other", "hc.fn", outputs, streams * s.hidden, count=2 * s.layers),
        *weight("other", "hc.base", outputs, count=2 * s.layers),
        *weight("other", "hc.scale", 3, count=2 * s.layers),
    ]
