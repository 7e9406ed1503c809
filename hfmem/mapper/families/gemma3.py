"""Gemma 3: the text decoder, and the multimodal model with a SigLIP vision tower (modeling_gemma3.py)."""

from __future__ import annotations

from dataclasses import replace

from hfmem.mapper.blueprint import Blueprint, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import decoder, every, feed_forward, layers_of
from hfmem.mapper.families._dialect import GATED, Dialect, attention, norms, sizes_of
from hfmem.mapper.families._heads import Output, output
from hfmem.mapper.families._siglip import vision_tower
from hfmem.mapper.values import Dense, TensorGroup

__all__ = ["read"]

_DIALECT = Dialect(
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    qk_norm="head",
    norms=4,
    schedule=every(6, "sliding_window_pattern"),
)


def read(facts: Facts) -> Blueprint:
    """Layers and weights of the text model, or of the whole."""
    if facts.model_type == "gemma3_text":
        return _text(facts, facts)
    text = facts.part("text_config") or Facts({}, "gemma3_text", "text_config.")
    named = facts.items("architectures")
    if named and named[0] == "Gemma3ForCausalLM":  # the text model alone, even if the file has a vision_config
        alone = text.changed(architectures=named)
        found = _text(alone, alone)
        return replace(found, architecture=replace(found.architecture, model_type=facts.model_type))
    vision = facts.part("vision_config") or Facts({}, "siglip_vision_model", "vision_config.")
    blueprint = _text(text, facts)
    return replace(
        blueprint,
        architecture=replace(blueprint.architecture, model_type=facts.model_type),
        groups=None
        if blueprint.groups is None or vision.model_type != "siglip_vision_model"
        else (*blueprint.groups, *vision_tower(vision), *_projector(text, vision)),
    )


def _text(facts: Facts, whole: Facts) -> Blueprint:
    """The decoder. The class and `tie_word_embeddings` are taken from `whole`."""
    s = replace(sizes_of(facts, _DIALECT), tied=whole.flag("tie_word_embeddings"))
    intermediate = facts.integer("intermediate_size")
    weights = [
        *attention(facts, s, _DIALECT),
        *feed_forward((s.hidden, intermediate), GATED, count=s.layers),
        *norms(facts, s, _DIALECT),
    ]
    window = facts.optional_integer("sliding_window")
    if window is not None and facts.flag("use_bidirectional_attention"):
        window = window // 2 + 1  # Gemma3TextConfig halves it: bidirectional windows extend to both sides
    layers = layers_of(facts, s, Dense(intermediate=intermediate, gated=True), _DIALECT.schedule, window)
    blueprint = decoder(facts, s, weights, layers)
    if whole is facts:
        return blueprint
    head, kind = output(whole, Output(width=s.hidden, vocab=s.vocab, tied=s.tied))
    return replace(
        blueprint,
        architecture=replace(blueprint.architecture, head=kind),
        groups=None if head is None else (*weights, *head),
    )


def _projector(text: Facts, vision: Facts) -> list[TensorGroup]:
    width = vision.integer("hidden_size")
    return [
        *weight("projector", "mm_input_projection", width, text.integer("hidden_size")),
        *weight("projector", "mm_soft_emb_norm", width),
    ]
