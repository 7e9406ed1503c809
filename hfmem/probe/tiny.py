"""Small configs of every text-generating type, with few keys, that keep the type's mix of layers.

`shrunk(model_type)` starts from the class default: sizes are replaced by small ones if the class has the key, and the
number of layers is the smallest that still contains every kind of layer of the default. Exceptions to the rules are in
`hfmem.probe.overrides`. `perturbed` varies one key at a time.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Final

import torch
import transformers
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
)

from hfmem.probe.overrides import OVERRIDES

__all__ = [
    "GROUPS",
    "at",
    "build",
    "config_type",
    "fields_of",
    "generating",
    "jsonable",
    "perturbed",
    "shrunk",
    "text_path",
    "types",
    "value",
]

GROUPS: Final[dict[str, Mapping[str, str]]] = {
    "image-text": MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    "causal": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "encoder-decoder": MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "speech": MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    "masked": MODEL_FOR_MASKED_LM_MAPPING_NAMES,
}
"""Types by task; a type belongs to the first group that contains it."""

# Sizes of a text model. They differ wherever equal sizes could hide a mix-up of two keys.
_SIZES: Final[dict[str, int]] = {
    "hidden_size": 64,
    "d_model": 64,
    "n_embd": 64,
    "emb_dim": 64,
    "num_attention_heads": 4,
    "num_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_kv_heads": 2,
    "multi_query_group_num": 2,
    "kv_n_heads": 2,
    "head_dim": 16,
    "d_kv": 16,
    "kv_channels": 16,
    "dim_head": 16,
    "vocab_size": 96,
    "src_vocab_size": 96,
    "tgt_vocab_size": 96,
    "unpadded_vocab_size": 96,
    "vocab_size_per_layer_input": 96,
    "embedding_size": 40,
    "hidden_size_per_layer_input": 12,
    "intermediate_size": 80,
    "intermediate_size_mlp": 88,
    "dense_intermediate_size": 88,
    "hidden_dim": 80,
    "ffn_dim": 80,
    "ffn_hidden_size": 80,
    "expert_ffn_hidden_size": 24,
    "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 80,
    "d_ff": 80,
    "dff": 80,
    "dim_ff": 80,
    "d_inner": 80,
    "n_inner": 72,
    "max_position_embeddings": 128,
    "n_positions": 128,
    "n_ctx": 128,
    "max_seq_len": 128,
    "sliding_window": 8,
    "sliding_window_size": 8,
    "attention_window_size": 8,
    "attention_chunk_size": 8,
    "window_size": 8,
    "num_local_experts": 6,
    "num_experts": 6,
    "n_routed_experts": 6,
    "moe_num_experts": 6,
    "num_experts_per_tok": 2,
    "top_k_experts": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "zero_expert_num": 4,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 56,
    "moe_shared_expert_intermediate_size": 56,
    "shared_experts_intermediate_size": 56,
    "n_group": 1,
    "topk_group": 1,
    "type_vocab_size": 3,
    "kv_lora_rank": 20,
    "q_lora_rank": 28,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 14,
    "index_head_dim": 18,
    "index_n_heads": 4,
    "index_topk": 4,
    "mamba_n_heads": 8,
    "mamba_num_heads": 8,
    "mamba_d_head": 16,
    "mamba_head_dim": 16,
    "mamba_d_state": 10,
    "ssm_state_size": 10,
    "state_size": 10,
    "mamba_n_groups": 2,
    "linear_head_dim": 16,
    "linear_num_heads": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 10,
    "linear_value_head_dim": 14,
    "pad_token_id": 0,
}

_LAYER_KEYS: Final = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "encoder_layers",
    "decoder_layers",
    "num_encoder_layers",
    "num_decoder_layers",
)

# Keys of the number of layers in sub-configs other than the text model, which are reduced while sizes stay.
_DEPTHS: Final = ("num_hidden_layers", "depth", "num_layers", "layers", "encoder_layers", "decoder_layers", "n_layer")

_WIDTHS: Final = (
    "hidden_size",
    "d_model",
    "num_attention_heads",
    "num_key_value_heads",
    "num_heads",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "intermediate_size",
    "ffn_dim",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "vocab_size",
)

_COUNTS: Final = (2, 4, 5, 6, 8, 10, 12, 16, 18, 20, 24, 32, 40, 48)


def types() -> dict[str, tuple[str, str]]:
    """Group and class name by row name: a type, or `type:class` for a type's class in an additional group."""
    found: dict[str, tuple[str, str]] = {}
    for group, names in GROUPS.items():
        for model_type, named in names.items():
            name = named if isinstance(named, str) else named[0]
            if model_type not in found:
                found[model_type] = (group, name)
            elif found[model_type][1] != name and config_type(model_type, name) == model_type:
                found.setdefault(f"{model_type}:{name}", (group, name))
    return found


def generating() -> dict[str, str]:
    """Class name by row name, as `types`, of those that generate text."""
    return {name: class_name for name, (group, class_name) in types().items() if group != "masked"}


def config_type(model_type: str, name: str) -> str:
    """The type whose config a class takes; for the text model of a multimodal type, that of the sub-config."""
    wanted = getattr(transformers, name).config_class
    if wanted is None or isinstance(wanted, str) or CONFIG_MAPPING[model_type] is wanted:
        return model_type
    return str(wanted.model_type)


def build(config: Mapping[str, Any]) -> PreTrainedConfig:
    """The config object for a config.json."""
    rest = {key: value for key, value in copy.deepcopy(dict(config)).items() if key != "model_type"}
    return CONFIG_MAPPING[config["model_type"]](**rest)


def shrunk(model_type: str, name: str) -> dict[str, Any]:
    """A small config.json of a type for the class `name`."""
    model_type = config_type(model_type, name)
    default = CONFIG_MAPPING[model_type]()
    path = text_path(default)
    wanted = _kinds(at(default, path))
    last: Exception | None = None
    for count, tiny in product(_COUNTS, (True, False)):
        config = {"model_type": model_type, "architectures": [name], "pad_token_id": 0}
        config |= _small(default, path, count, tiny)
        try:
            built = build(config)
            if _kinds(at(built, path)) < wanted:
                continue
            with torch.device("meta"):
                getattr(transformers, name)(built)
        except Exception as error:  # a class may reject the sizes with any exception
            last = last or error
            continue
        return config
    raise last or ValueError(f"no small number of layers keeps {wanted}")


def text_path(config: PreTrainedConfig) -> tuple[str, ...]:
    """The keys from a config to its decoder's sub-config; () if the config itself describes the decoder."""
    text = config.get_text_config(decoder=True)
    return _find(config, text) or ()


def _find(config: PreTrainedConfig, wanted: PreTrainedConfig) -> tuple[str, ...] | None:
    if config is wanted:
        return ()
    for key in config.sub_configs:
        part = getattr(config, key, None)
        below = _find(part, wanted) if isinstance(part, PreTrainedConfig) else None
        if below is not None:
            return (key, *below)
    return None


def at(config: Any, path: tuple[str, ...]) -> Any:
    """The sub-config at a path of attributes."""
    for key in path:
        config = getattr(config, key)
    return config


def _kinds(text: PreTrainedConfig) -> set[str]:
    """All values of the lists with one entry per layer."""
    return {
        f"{key}={word}"
        for key in ("layer_types", "layers_block_type", "mlp_layer_types", "attention_types", "block_types")
        for word in (getattr(text, key, None) or ())
        if isinstance(word, str)
    }


def _small(config: PreTrainedConfig, path: tuple[str, ...], count: int, tiny: bool) -> dict[str, Any]:
    """The keys that make a config small; `path` leads to its text model. Other sub-configs get the same small sizes if
    `tiny`, otherwise only fewer layers."""
    keys = _text(config, count) if not path else {}
    for key in config.sub_configs:
        part = getattr(config, key, None)
        if not isinstance(part, PreTrainedConfig):
            continue
        leads = bool(path) and path[0] == key
        small = _small(part, path[1:], count, tiny) if leads else _other(part, tiny)
        keys[key] = {**({"model_type": part.model_type} if part.model_type else {}), **small}
    for key, value in OVERRIDES.get(config.model_type, {}).items():
        keys[key] = {**keys.get(key, {}), **value} if isinstance(value, dict) else value
    return keys


def _text(config: PreTrainedConfig, count: int) -> dict[str, Any]:
    fields = fields_of(config)
    names = {key: config.attribute_map.get(key, key) for key in (*_SIZES, *_LAYER_KEYS)}
    keys: dict[str, Any] = {
        names[key]: size for key, size in _SIZES.items() if names[key] in fields and _counts(fields[names[key]])
    }
    keys |= {names[key]: count for key in _LAYER_KEYS if names[key] in fields}
    if (
        fields.get("kv_lora_rank") and fields["kv_lora_rank"].default
    ):  # MLA: all heads share one latent, and head_dim follows from its parts
        keys.pop("head_dim", None)
        keys |= {"num_key_value_heads": keys["num_attention_heads"]} if "num_key_value_heads" in keys else {}
    keys |= _cut_lists(config, fields, count) | _sections(config)
    return keys | OVERRIDES.get(config.model_type, {})


def _sections(config: PreTrainedConfig) -> dict[str, Any]:
    """Rotary sections (time, height, width) scaled to a head_dim of 32."""
    rope = getattr(config, "rope_parameters", None) or {}
    sections = rope.get("mrope_section")
    if not sections:
        return {}
    dim = value(config, "head_dim") or config.hidden_size // config.num_attention_heads
    keys: dict[str, Any] = {"head_dim": 32} if "head_dim" in fields_of(config) else {}
    return keys | {"hidden_size": 128, "rope_parameters": {**rope, "mrope_section": [s * 32 // dim for s in sections]}}


def _counts(field: Any) -> bool:
    """Whether the default of a key is an integer, or None and computed by the class."""
    return field.default is None or (isinstance(field.default, int) and not isinstance(field.default, bool))


def _cut_lists(config: PreTrainedConfig, fields: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Constant defaults with one entry per layer, cut to `count` layers."""
    depth = getattr(config, "num_hidden_layers", None)
    return {
        key: list(field.default)[:count]
        for key, field in fields.items()
        if isinstance(field.default, list | tuple) and len(field.default) == depth
    }


def _other(config: PreTrainedConfig, tiny: bool) -> dict[str, Any]:
    """A vision or audio sub-config with two layers, or unchanged depth if some of its keys are layer indices."""
    fields = fields_of(config)
    keys: dict[str, Any] = {}
    if not any("index" in key for key in fields):
        keys = {key: 2 for key in _DEPTHS if key in fields and _counts(fields[key])}
    if tiny:
        keys |= {key: _SIZES[key] for key in _WIDTHS if key in fields and _counts(fields[key])}
    for key in config.sub_configs:
        part = getattr(config, key, None)
        if isinstance(part, PreTrainedConfig):
            keys[key] = {**({"model_type": part.model_type} if part.model_type else {}), **_other(part, tiny)}
    return keys | OVERRIDES.get(config.model_type, {})


def value(config: PreTrainedConfig, key: str) -> Any:
    """A value of a config; if some layers override it, the value of all other layers."""
    try:
        return getattr(config, key, None)
    except RuntimeError:  # raised by classes in which the value varies by layer
        return vars(config).get(key)


def fields_of(config: PreTrainedConfig) -> dict[str, Any]:
    """The declared fields of a config by name."""
    return {field.name: field for field in dataclasses.fields(config)}


def perturbed(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Configs with one key of the text model changed, each with the name of the change."""
    built = build(config)
    path = text_path(built)
    text = at(built, path)
    for name, changes in _changes(text):
        changed = copy.deepcopy(dict(config))
        part = changed
        for key in path:
            part = part[key]
        part |= changes
        yield name, changed


def _changes(text: PreTrainedConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    fields = fields_of(text)

    def named(*keys: str) -> list[str]:
        return [text.attribute_map.get(key, key) for key in keys if text.attribute_map.get(key, key) in fields]

    for key in named("num_key_value_heads", "num_kv_heads"):
        yield f"{key}=1", {key: 1}
    for key in named("num_attention_heads", "n_heads", "num_heads"):
        yield f"{key}=2", {key: 2}
    for key in (key for key in ("kv_lora_rank", "qk_rope_head_dim") if key in fields and fields[key].default):
        yield f"{key}=16", {key: 16}
    if "is_decoder" in fields and not text.is_decoder:
        yield "is_decoder", {"is_decoder": True}
    for key in named("head_dim"):
        yield f"{key}=24", {key: 24}
    yield from _window_changes(named)
    kinds = getattr(text, "layer_types", None)
    if kinds and "layer_types" in fields and len(set(kinds)) > 1:
        yield "layer_types reversed", {"layer_types": list(kinds)[::-1]}
    for key in named("num_hidden_layers"):
        if not kinds or "layer_types" not in fields:
            yield f"{key}+1", {key: text.num_hidden_layers + 1}


def _window_changes(named: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for key in named("sliding_window"):
        yield f"{key}=5", {key: 5}
        yield f"{key}=null", {key: None}
    if named("use_sliding_window"):
        yield "use_sliding_window", {"use_sliding_window": True}


def jsonable(config: PreTrainedConfig) -> dict[str, Any]:
    """The config.json that `save_pretrained` would write, with every key."""
    found: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return found
