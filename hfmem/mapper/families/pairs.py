"""Encoder-decoder pairs of any two model types, each with its own config (modeling_encoder_decoder.py,
modeling_vision_encoder_decoder.py)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hfmem.mapper.blueprint import Blueprint, linear
from hfmem.mapper.caches import KV, Combined, CrossKV
from hfmem.mapper.facts import Facts
from hfmem.mapper.families import reader
from hfmem.mapper.values import Architecture, Layer, TensorGroup

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers of the decoder, with caches for self- and cross-attention, and the weights of both."""
    encoder, decoder = facts.nested("encoder"), facts.nested("decoder")
    read_encoder, read_decoder = reader(encoder.model_type), reader(decoder.model_type)
    if read_decoder is None:
        reason = f"its decoder's model_type, '{decoder.model_type}', is not supported yet"
        return Blueprint(architecture=Architecture(model_type=facts.model_type, unknown=reason), groups=None)
    second = read_decoder(decoder.changed(architectures=["ForCausalLM"]))
    first = None if read_encoder is None else read_encoder(encoder.changed(architectures=["Model"]))
    architecture = second.architecture
    return Blueprint(
        architecture=replace(
            architecture,
            model_type=facts.model_type,
            layers=None if architecture.layers is None else tuple(_crossed(architecture.layers)),
            source="encoder",
            max_source_positions=None if first is None else first.architecture.max_positions,
        ),
        groups=None if first is None else _together(first, second, decoder),
    )


def _together(first: Blueprint, second: Blueprint, decoder: Facts) -> tuple[TensorGroup, ...] | None:
    if first.groups is None or second.groups is None:
        return None
    return (*first.groups, *second.groups, *_between(first, second, decoder))


def _crossed(layers: Iterable[Layer]) -> Iterable[Layer]:
    for layer in layers:
        own = layer.cache
        if isinstance(own, KV):
            cross = CrossKV(heads=own.heads, key_dim=own.key_dim, value_dim=own.value_dim)
            yield replace(layer, cache=Combined(caches=(own, cross)))
        else:
            yield layer


def _between(first: Blueprint, second: Blueprint, decoder: Facts) -> list[TensorGroup]:
    """A projection, where hidden sizes differ and the decoder has no `cross_attention_hidden_size`."""
    inputs, outputs = first.architecture.hidden_size or 0, second.architecture.hidden_size or 0
    if inputs == outputs or decoder.has("cross_attention_hidden_size"):
        return []
    return linear("projector", "enc_to_dec_proj", outputs, inputs, bias=True)
