"""The sizes of an audio tower, by which its measured activations are evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hfmem.errors import InvalidConfigError
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.inputs import Tower

__all__ = ["ear_of"]


def ear_of(config: Mapping[str, Any]) -> Tower | None:
    """The audio tower that a config describes, with its positions of a window as `patches`; None where a size is
    missing or impossible."""
    facts = Facts(config)
    try:
        return _ear(facts)
    except (MissingFactError, InvalidConfigError, ZeroDivisionError):
        return None


def _ear(facts: Facts) -> Tower:
    audio = facts.nested("audio_config")
    text = facts.part("text_config") or facts
    hidden = audio.integer("d_model", "hidden_size")
    heads = audio.integer("encoder_attention_heads", "num_attention_heads")
    return Tower(
        name=facts.model_type,
        kind=audio.model_type,
        layers=audio.integer("encoder_layers", "num_hidden_layers"),
        sizes={
            "hidden": hidden,
            "intermediate": audio.integer("encoder_ffn_dim", "intermediate_size"),
            "heads": heads,
            "key_dim": hidden // heads,
            "mels": audio.integer("num_mel_bins"),
            "out": text.integer("hidden_size"),
        },
        patches=audio.integer("max_source_positions", "max_position_embeddings"),
    )
