"""Small models of several parts, and encoder-decoders: their configurations, and what the real classes make of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.oracle.reference import SMALL, classes, configuration, parameters

TOKENS, SOURCE = 20, 9

# Sizes of towers and of both stacks, no two of which are equal where a reader could confuse them.
SIZES: dict[str, Any] = {
    **SMALL,
    "image_size": 28,
    "patch_size": 7,
    "depth": 3,
    "num_heads": 4,
    "embed_dim": 64,
    "d_model": 48,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 72,
    "decoder_ffn_dim": 88,
    "num_mel_bins": 16,
    "input_feat_per_channel": 16,
    "conv_channels": 24,
    "max_source_positions": 20,
    "max_target_positions": 44,
    "downsample_hidden_size": 10,
    "output_dim": 40,
    "out_hidden_size": 56,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 2],
    "projector_input_dim": 92,
    "projector_output_dim": 88,
    "num_global_layers": 2,
    "moe_num_experts": 6,
    "n_routed_experts": 6,
    "num_experts": 6,
    "pos_emb_height": 4,
    "pos_emb_width": 4,
    "d_kv": 12,
    "d_ff": 80,
    "num_layers": 3,
    "num_decoder_layers": 2,
}

_ROTARY = {"rope_type": "default", "rope_theta": 10000.0}
_SECTIONS = {"rope_parameters": {**_ROTARY, "mrope_section": [2, 3, 3]}}
_ALL_ROTARY = {"no_rope_layers": [1] * 6}
_SHARED = {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 3}

# Keys of a part without which the class cannot be built or run so small.
PARTS: dict[str, dict[str, Any]] = {
    "deepseek_v3": {"num_key_value_heads": 4},
    "gemma3n_text": {**_SHARED, "intermediate_size": [80, 80, 80, 80, 80, 40], "head_dim": 16},
    "gemma4_audio": {"subsampling_conv_channels": [16, 8]},
    "gemma4_text": {**_SHARED, "global_head_dim": 24, "head_dim": 16},
    "gemma4_unified_text": {**_SHARED, "global_head_dim": 24, "head_dim": 16},
    "dots3_note_audio_encoder": {"adapter_input_size": 64, "adapter_out_dim": 64},
    "dots3_note_text": {"num_key_value_heads": 4},
    "dots3_note_vision_encoder": {"num_hidden_layers": 42, "adapter_in_dim": 64, "adapter_out_dim": 64},
    "glm5_next_text": {"num_key_value_heads": 4, "qk_rope_head_dim": 0, "index_kpool": 2},
    "mistral_large4_text": {"num_key_value_heads": 4},
    "glm4v_moe_text": {"rope_parameters": {**_ROTARY, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}},
    "glm4v_text": _SECTIONS,
    "glm_ocr_text": _SECTIONS,
    "granite_docling_vision": {"out_hidden_size": 64},
    "inkling2_vision": {"text_hidden_size": 64},
    "internvl_vision": {"image_size": [28, 28], "patch_size": [7, 7]},
    "llama4_text": {"attention_chunk_size": 8, "head_dim": 24, "intermediate_size_mlp": 72},
    "llama4_vision_model": {"intermediate_size": 256, "projector_output_dim": 92, "vision_output_dim": 92},
    "mllama_text_model": {"cross_attention_layers": [1, 3]},
    "mllama_vision_model": {"vision_output_dim": 384},
    "paddleocr_vl_text": {"rope_parameters": {**_ROTARY, "mrope_section": [2, 3, 3]}, "head_dim": 16},
    "pixtral": {"head_dim": 16},
    "qwen2_5_omni_text": _SECTIONS,
    "qwen2_5_vl_text": _SECTIONS,
    "qwen2_vl_text": _SECTIONS,
    "qwen2_vl_vision": {"hidden_size": 64},
    "qwen3_5_moe_text": {"head_dim": 16},
    "qwen3_5_text": {"head_dim": 16},
    "yolos": {"image_size": [28, 21]},
}

# Keys of the whole.
WHOLES: dict[str, dict[str, Any]] = {
    "aya_vision": {"alignment_intermediate_size": 100},
    "cohere2_vision": {"alignment_intermediate_size": 100},
    "fuyu": {"patch_size": 7},
    "kimi_k25": {"projection_hidden_size": 64},
}

# Changes beyond flags: (part or "", keys).
VARIANTS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "bart": [("", {"id2label": {"0": "a", "1": "b"}})],
    "cohere2_vision": [("text_config", {"sliding_window_pattern": 3})],
    "gemma3n_text": [("", {"num_kv_shared_layers": 0}), ("", {"altup_num_inputs": 2, "laurel_rank": 5})],
    "gemma4": [
        ("", {"vision_config": None}),
        ("text_config", {"attention_k_eq_v": True, "num_global_key_value_heads": 1}),
        ("text_config", {"use_double_wide_mlp": True, "num_kv_shared_layers": 3}),
        ("text_config", {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0}),
        ("text_config", {"enable_moe_block": True, "num_experts": 6, "top_k_experts": 2, "moe_intermediate_size": 24}),
        ("text_config", {"sliding_window": 12, "layer_types": ["sliding_attention"] * 3 + ["full_attention"] * 3}),
    ],
    "glm5_next": [
        (
            "text_config",
            {
                "layer_types": ["full_attention", "linear_attention", *["full_attention"] * 2]
                + ["linear_attention"] * 2,
                "indexer_types": ["full", "shared", "full", "shared", "shared", "full"],
                "hc_mult": 3,
            },
        ),
        ("text_config", {"linear_attn_config": {"head_dim": 12, "num_heads": 5}, "mlp_layer_types": ["dense"] * 6}),
    ],
    "idefics3": [("", {"scale_factor": 4})],
    "internvl": [("vision_config", {"norm_type": "rms_norm", "image_size": [14, 14]})],
    "llama4": [
        ("text_config", {"interleave_moe_layer_step": 2}),
        ("text_config", {"moe_layers": [1], "no_rope_layer_interval": 2}),
        ("text_config", {"attention_chunk_size": 12}),
        ("text_config", {"tie_word_embeddings": True}),
    ],
    "llava": [
        ("", {"vision_feature_layer": [-2, -1]}),
        ("text_config", {"model_type": "mistral"}),
        ("text_config", {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 2}),
        ("vision_config", {"model_type": "siglip_vision_model"}),
    ],
    "longt5": [("", {"encoder_attention_type": "transient-global"})],
    "mistral3": [("text_config", {"model_type": "ministral3", "head_dim": 24}), ("", {"spatial_merge_size": 3})],
    "mistral_large4": [
        ("text_config", {"no_rope_layer_interval": 2, "index_topk_freq": 2}),
        ("text_config", {"kv_source_layers": [0, 1, 0, 3, 1, 0], "no_rope_layers": [1, 0, 1, 1, 0, 1]}),
        ("text_config", {"kv_source_layers": [0, 0, 0, 0, 0, 0], "index_topk_pattern": "FFSFFS"} | _ALL_ROTARY),
    ],
    "mllama": [("text_config", {"cross_attention_layers": [0, 2, 4], "num_key_value_heads": 4})],
    "marian": [("", {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False})],
    "mt5": [("", {"feed_forward_proj": "relu"})],
    "qwen2_5_vl": [("text_config", {"use_sliding_window": True})],
    "qwen2_audio": [("text_config", {"use_sliding_window": True})],
    "qwen2_vl": [("text_config", {"use_sliding_window": True, "max_window_layers": 1})],
    "qwen3_vl": [("vision_config", {"deepstack_visual_indexes": [1]}), ("text_config", {"head_dim": 24})],
    "qwen3_vl_moe": [("text_config", {"decoder_sparse_step": 2, "mlp_only_layers": [1]})],
    "speech_to_text": [("", {"conv_kernel_sizes": [5, 3], "num_conv_layers": 2, "input_channels": 2})],
    "t5": [("", {"feed_forward_proj": "gated-gelu"}), ("", {"tie_word_embeddings": False}), ("", {"num_heads": 3})],
    "whisper": [("", {"max_source_positions": 12, "d_model": 64})],
    "yolos": [("", {"use_mid_position_embeddings": False, "image_size": [28, 14]})],
}


def part(model_type: str) -> dict[str, Any]:
    """A small configuration of one type."""
    config_class = CONFIG_MAPPING[model_type]
    known = {field.name for field in dataclasses.fields(config_class)}
    config: dict[str, Any] = {"model_type": model_type}
    for key, value in SIZES.items():
        name = config_class.attribute_map.get(key, key)
        if name in known:
            config[name] = value
    return config | PARTS.get(model_type, {})


def whole(model_type: str) -> dict[str, Any]:
    """A small configuration of a type, with its parts."""
    parts = CONFIG_MAPPING[model_type].sub_configs_defaults
    if not parts:
        return part(model_type)
    inner = {key: part(spec.model_type) for key, spec in parts.items()}
    return {"model_type": model_type, **inner, **WHOLES.get(model_type, {})}


def changed(config: Mapping[str, Any], key: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with some keys of it, or of a part of it, changed; one that changes its type is made anew."""
    if not key:
        return {**config, **changes}
    base = part(changes["model_type"]) if "model_type" in changes else config[key]
    return {**config, key: {**base, **changes}}


def variants(model_type: str) -> Iterator[dict[str, Any]]:
    """The small configuration, and each of its variants."""
    base = whole(model_type)
    yield base
    for key, changes in VARIANTS.get(model_type, []):
        yield changed(base, key, changes)


def speaker(model_type: str) -> str:
    """The class of a type that generates text; else its first."""
    names = classes(model_type)
    endings = ("ForConditionalGeneration", "MTModel", "ForCausalLM")
    return next((name for ending in endings for name in names if name.endswith(ending)), names[0])


def kept(config: Mapping[str, Any]) -> tuple[list[int], int]:
    """Elements that each layer keeps of `TOKENS` tokens after a forward pass in bfloat16 without images or sound, and
    how many tokens the encoder made (0 without one)."""
    torch.manual_seed(0)
    model = getattr(transformers, config["architectures"][0])(configuration(config)).eval().to(torch.bfloat16)
    with torch.no_grad():
        found = model(**_inputs(config), use_cache=True)
    cache = found.past_key_values
    if not hasattr(cache, "cross_attention_cache"):
        return [_elements(layer) for layer in cache.layers], 0
    both = zip(cache.self_attention_cache.layers, cache.cross_attention_cache.layers, strict=True)
    return [_elements(own) + _elements(other) for own, other in both], found.encoder_last_hidden_state.shape[1]


def measured(config: Mapping[str, Any]) -> dict[str, Any]:
    """The row of one configuration."""
    elements, source = kept(config)
    return {"config": dict(config), "parameters": parameters(config), "kept": elements, "source": source}


def _inputs(config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    tokens = torch.full((1, TOKENS), 5)
    if config["model_type"] == "whisper":
        frames = 2 * config["max_source_positions"]
        sound = torch.zeros(1, config["num_mel_bins"], frames, dtype=torch.bfloat16)
        return {"input_features": sound, "decoder_input_ids": tokens}
    if config["model_type"] == "speech_to_text":
        channels = config.get("input_channels", 1)
        sound = torch.zeros(1, 33, config["input_feat_per_channel"] * channels, dtype=torch.bfloat16)
        return {"input_features": sound, "decoder_input_ids": tokens}
    if configuration(config).is_encoder_decoder:
        return {"input_ids": torch.full((1, SOURCE), 5), "decoder_input_ids": tokens}
    return {"input_ids": tokens}


def _elements(layer: Any) -> int:
    """What a layer of the cache holds: its keys and values, or the states of one without attention."""
    tensors = {id(item): item for item in _tensors(vars(layer))}
    return sum(item.numel() for item in tensors.values())


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)
