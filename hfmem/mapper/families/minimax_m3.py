"""The text model of MiniMax-M3: grouped-query attention, in most layers over blocks of keys selected by an indexer
(configuration_minimax_m3_vl.py, modeling_minimax_m3_vl.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, linear, norm
from hfmem.mapper.caches import KV, Indexed
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, sizes
from hfmem.mapper.families._dialect import Dialect, attention, norms
from hfmem.mapper.families._mixture import Mixture, by_type, mixture
from hfmem.mapper.values import Layer, TensorGroup

__all__ = ["read"]

_SPARSE: Final = "minimax_m3_sparse"
_DIALECT: Final = Dialect(qk_norm="head")


def _frequency(facts: Facts, layers: int) -> Sequence[bool]:
    """Layers with a non-zero entry in `moe_layer_freq`; all if there is no such list."""
    listed = facts.items("moe_layer_freq")
    return (True,) * layers if listed is None else [bool(item) for item in listed[:layers]]


_MIXTURE: Final = Mixture(
    sparse=by_type(_frequency),
    shared=lambda facts: facts.integer("shared_intermediate_size"),
    dense="dense_intermediate_size",
)


def read(facts: Facts) -> Blueprint:
    """Layers and weights. `minimax_m3` is the model_type in files for serving engines with only the text model."""
    text = facts.changed(model_type="minimax_m3_vl_text")
    s = sizes(text)
    kinds = _kinds(text, s.layers)
    ffns, networks = mixture(text, _MIXTURE, s.hidden, s.layers)
    weights = [
        *attention(text, s, _DIALECT),
        *_indexers(text, s, kinds.count(_SPARSE)),
        *networks,
        *norms(text, s, _DIALECT),
    ]
    kept = KV(heads=s.kv_heads, key_dim=s.head_dim, value_dim=s.head_dim)
    indexed = Indexed(attention=kept, index_dim=_index(text, "index_head_dim", "sparse_index_dim"))
    layers = tuple(
        Layer(kind=kind, cache=indexed if kind == _SPARSE else kept, heads=s.heads, ffn=ffn)
        for kind, ffn in zip(kinds, ffns, strict=True)
    )
    blueprint = decoder(text, s, weights, layers)
    return replace(blueprint, architecture=replace(blueprint.architecture, model_type=facts.model_type))


def _kinds(facts: Facts, layers: int) -> tuple[str, ...]:
    """From `layer_types`, else `sparse_attention_freq`, else full attention everywhere."""
    listed = facts.items("layer_types")
    sparse = facts.part("sparse_attention_config")
    frequency = None if sparse is None else sparse.items("sparse_attention_freq")
    if listed is not None:
        kinds = tuple(str(kind) for kind in listed)
    elif frequency is not None:
        kinds = tuple(_SPARSE if item else "full_attention" for item in frequency)
    else:
        kinds = ("full_attention",) * layers
    if len(kinds) != layers or not set(kinds) <= {_SPARSE, "full_attention"}:
        raise InvalidConfigError("", f"layer_types has {len(kinds)} entries for {layers} layers")
    return kinds


def _index(facts: Facts, key: str, older: str) -> int:
    """A size of the indexer. Older files have it in `sparse_attention_config`, which takes precedence."""
    sparse = facts.part("sparse_attention_config")
    size = None if sparse is None else sparse.optional_integer(older)
    return facts.integer(key) if size is None else size


def _indexers(facts: Facts, s: Sizes, count: int) -> list[TensorGroup]:
    if not count:
        return []
    size = _index(facts, "index_head_dim", "sparse_index_dim")
    heads = _index(facts, "index_n_heads", "sparse_num_index_heads")
    return [
        *linear("attention", "indexer.q_proj", heads * size, s.hidden, count=count),
        *linear("attention", "indexer.k_proj", size, s.hidden, count=count),
        *norm(size, count=2 * count, role="indexer.qk_norm"),
    ]
