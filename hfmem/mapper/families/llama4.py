"""Llama 4's text model: chunked attention in three of four layers, and experts in some (modeling_llama4.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import decoder, layers_of
from hfmem.mapper.families._dialect import Dialect, attention, norms, output_of, sizes_of
from hfmem.mapper.families._mixture import Mixture, mixture

__all__ = ["read"]

_DIALECT: Final = Dialect(qkv_bias="attention_bias", out_bias="attention_bias")


def _interleaved(facts: Facts, layers: int) -> Sequence[bool]:
    """The layers in `moe_layers`, else every `interleave_moe_layer_step`-th."""
    named = facts.items("moe_layers")
    if named is not None:
        return [index in named for index in range(layers)]
    step = facts.integer("interleave_moe_layer_step")
    return [(index + 1) % step == 0 for index in range(layers)]


_MIXTURE: Final = Mixture(
    intermediate="moe_intermediate_size",
    sparse=_interleaved,
    shared=lambda facts: facts.integer("moe_intermediate_size"),
)


def read(facts: Facts) -> Blueprint:
    """Layers and weights. `intermediate_size` is that of the experts, `intermediate_size_mlp` that of dense layers."""
    s = sizes_of(facts, _DIALECT)
    renamed = facts.changed(
        moe_intermediate_size=facts.integer("intermediate_size"),
        intermediate_size=facts.integer("intermediate_size_mlp"),
    )
    ffns, networks = mixture(renamed, _MIXTURE, s.hidden, s.layers)
    weights = [*attention(facts, s, _DIALECT), *networks, *norms(facts, s, _DIALECT)]
    kinds = facts.items("layer_types") or _kinds(facts, s.layers)
    chunked = facts.changed(layer_types=kinds, attention_chunk_size=facts.optional_integer("attention_chunk_size"))
    return decoder(facts, s, weights, layers_of(chunked, s, ffns), output_of(facts, s, _DIALECT))


def _kinds(facts: Facts, layers: int) -> list[str]:
    """Layers with rotary positions use chunked attention; NoPE layers attend to everything."""
    interval = facts.integer("no_rope_layer_interval")
    rotated = facts.items("no_rope_layers") or [(index + 1) % interval for index in range(layers)]
    return ["chunked_attention" if has_rope else "full_attention" for has_rope in rotated]
