"""Dots 3 Note: latent attention with an indexer in some layers, and with a sliding window and other sizes in the rest
(configuration_dots3_note.py, modeling_dots3_note.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm
from hfmem.mapper.caches import Cache, Indexed
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import decoder, own_facts
from hfmem.mapper.families._mixture import DEEPSEEK, Mixture, by_type, mixture
from hfmem.mapper.families._states import kinds_of
from hfmem.mapper.families.deepseek import indexers, latent_attention, latent_cache, latent_sizes
from hfmem.mapper.values import Ffn, Layer, TensorGroup

__all__ = ["read"]

_INDEXED: Final = "indexed_attention"
_FULL: Final = "full_attention"
_SLIDING: Final = "sliding_attention"

# Default sizes of sliding-window layers; the config's keys are `swa_…`.
_SLIDING_SIZES: Final = {
    "num_attention_heads": 64,
    "q_lora_rank": 1024,
    "kv_lora_rank": 1024,
    "head_dim": 256,
    "qk_nope_head_dim": 192,
    "v_head_dim": 128,
}
_KEYS: Final = (*_SLIDING_SIZES, "qk_rope_head_dim", "sliding_window")
_WINDOW: Final = 512

_Changes = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A layer's kind, and the config keys that it overrides."""

    name: str
    changes: _Changes


def read(facts: Facts) -> Blueprint:
    """Layers and weights."""
    s = latent_sizes(facts)
    kinds = _layers(facts, s.layers)
    ffns, networks = mixture(facts, _mixed(facts), s.hidden, s.layers)
    weights = [
        *embedding(s.vocab, s.hidden),
        *(group for kind in dict.fromkeys(kinds) for group in _attention(facts, kind, kinds.count(kind))),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    return decoder(facts, s, weights, tuple(map(_layer, [facts] * s.layers, kinds, ffns)))


def _layers(facts: Facts, layers: int) -> list[_Kind]:
    names = _names(facts, layers)
    if len(names) != layers:
        raise InvalidConfigError("", f"layer_types has {len(names)} entries for {layers} layers")
    return [_Kind(name=name, changes=_changes(facts, name, index)) for index, name in enumerate(names)]


def _names(facts: Facts, layers: int) -> Sequence[str]:
    """From `layer_types` (older files list layers with an indexer as full attention); by default every layer but 0 and
    1, 5, 9, … uses a sliding window."""
    full = _INDEXED if facts.flag("use_dsa", default=True) else _FULL
    slides = facts.flag("use_sliding_window", default=True)
    default = [_SLIDING if slides and index > 1 and index % 4 != 1 else full for index in range(layers)]
    names = kinds_of(facts, default, (_INDEXED, _FULL, _SLIDING))
    if facts.has("per_layer_config") and not facts.has("use_dsa"):
        return names
    return [name if name == _SLIDING else full for name in names]


def _changes(facts: Facts, name: str, index: int) -> _Changes:
    """The overrides of a layer: from `per_layer_config`, else the keys `swa_…` for sliding-window layers."""
    listed = facts.part("per_layer_config")
    if listed is not None:
        part = own_facts(listed, index)
        return tuple((key, part.integer(key)) for key in _KEYS if part.has(key))
    if name != _SLIDING:
        return ()
    sizes = {key: facts.integer(f"swa_{key}", default=size) for key, size in _SLIDING_SIZES.items()}
    rope = sizes["head_dim"] - sizes["qk_nope_head_dim"]
    return (*sizes.items(), ("qk_rope_head_dim", facts.integer("swa_qk_rope_head_dim", default=rope)))


def _mixed(facts: Facts) -> Mixture:
    """Experts; the shared ones have their own size, whose key differs in older files."""
    older = facts.optional_integer("moe_shared_expert_intermediate_size")
    size = facts.integer("shared_experts_intermediate_size") if older is None else older
    return replace(DEEPSEEK, sparse=by_type(_sparse), shared=lambda _: size * facts.integer("n_shared_experts"))


def _sparse(facts: Facts, layers: int) -> Sequence[bool]:
    """Which layers from `first_k_dense_replace` on have experts: a flag per layer or a period in `moe_layer_freq`."""
    first = facts.integer("first_k_dense_replace", default=1)
    steps = facts.integers("moe_layer_freq") if facts.has("moe_layer_freq") else (1,)
    if len(steps) == 1:
        return [index >= first and index % (steps[0] or 1) == 0 for index in range(layers)]
    if len(steps) < layers:
        raise InvalidConfigError("", f"moe_layer_freq has {len(steps)} entries for {layers} layers")
    return [index >= first and bool(steps[index]) for index in range(layers)]


def _layer(facts: Facts, kind: _Kind, ffn: Ffn) -> Layer:
    own = facts.changed(**dict(kind.changes))
    s = latent_sizes(own)
    latent = latent_cache(own, s)
    cache: Cache = latent
    if kind.name == _SLIDING:
        cache = replace(latent, window=_window(own))
    elif kind.name == _INDEXED:  # the class applies rotary positions in float32, and does not cast the keys back
        cache = Indexed(attention=latent, index_dim=own.integer("index_head_dim"), index_dtype="float32")
    return Layer(kind=kind.name, cache=cache, heads=s.heads, ffn=ffn)


def _window(facts: Facts) -> int:
    window = facts.optional_integer("sliding_window")
    return facts.integer("sliding_window_size", default=_WINDOW) if window is None else window


def _attention(facts: Facts, kind: _Kind, count: int) -> list[TensorGroup]:
    """Attention of `count` layers of one kind, with a norm of the rope keys and a gate per head in addition to MLA."""
    own = facts.changed(**dict(kind.changes))
    s = replace(latent_sizes(own), layers=count)
    return [
        *latent_attention(own, s),
        *norm(own.integer("qk_rope_head_dim"), count=count, role="k_rope_only_layernorm"),
        *linear("attention", "g_proj", s.heads, s.hidden, count=count),
        *indexers(own, s, count if kind.name == _INDEXED else 0),
    ]
