"""Values of a file's metadata that convert_hf_to_gguf writes for every model (`TextModel.set_gguf_parameters`).

Only those on which a size depends: no epsilons, no frequencies of rotary positions, no vocabulary.
"""

from __future__ import annotations

from typing import Any, Final

from hfmem.mapper.facts import Facts

__all__ = ["Values", "general", "head_size", "layer_kinds", "rope", "rotated"]

Values = dict[str, Any]
"""Keys without the architecture's name."""

_GENERAL: Final = {
    "context_length": (
        *("max_position_embeddings", "n_ctx", "n_positions", "max_length", "max_sequence_length", "model_max_length"),
    ),
    "embedding_length": ("hidden_size", "n_embd", "dim"),
    "feed_forward_length": ("intermediate_size", "n_inner", "hidden_dim"),
    "attention.head_count": ("num_attention_heads", "n_head", "n_heads"),
    "attention.head_count_kv": ("num_key_value_heads", "n_kv_heads"),
    "expert_count": ("num_local_experts", "num_experts", "n_routed_experts"),
    "expert_used_count": ("num_experts_per_tok", "num_experts_per_token", "top_k_experts"),
}


def general(facts: Facts) -> Values:
    """The values of every model. Its layers are counted without those of further predictions.

    Raises:
        MissingFactError, InvalidConfigError: the config has no layers, or an impossible value.
    """
    found: Values = {"block_count": facts.integer("num_hidden_layers", "n_layer", "n_layers", "num_layers")}
    for key, names in _GENERAL.items():
        value = facts.optional_integer(*names)
        if value is not None:
            found[key] = value
    if (head := facts.optional_integer("head_dim")) is not None:
        found |= {"attention.key_length": head, "attention.value_length": head}
    return found


def head_size(facts: Facts) -> int:
    """Elements of a head."""
    heads = facts.integer("num_attention_heads", "n_head")
    return facts.optional_integer("head_dim") or facts.integer("hidden_size", "n_embd") // max(heads, 1)


def rope(facts: Facts) -> Facts:
    """The parameters of rotary positions of full attention; empty without any."""
    part = facts.part("rope_parameters", "rope_scaling")
    full = part.part("full_attention") if part is not None else None
    found = full or part
    return Facts({}) if found is None else found.alone()


def rotated(facts: Facts, default: float = 1.0) -> float:
    """The part of a head that is rotated."""
    own = facts.number("partial_rotary_factor", "rope_pct", "rope_percent", "rotary_pct", default=default)
    return rope(facts).number("partial_rotary_factor", default=own)


def layer_kinds(facts: Facts) -> tuple[str, ...]:
    """What the config calls each layer; () where it does not."""
    return facts.words("layer_types", "layers_block_type")
