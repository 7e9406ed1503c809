"""The reference: classes of the installed `transformers`, built on the meta device, or tiny on the CPU."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import transformers
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

transformers.logging.set_verbosity_error()

# Sizes that no two of are equal where a reader could confuse them.
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_kv_heads": 2,
    "vocab_size": 96,
    "intermediate_size": 80,
    "hidden_dim": 80,
    "ffn_dim": 80,
    "max_position_embeddings": 48,
    "n_inner": 72,
    "embedding_size": 40,
    "sliding_window": 8,
    "max_window_layers": 3,
    "num_local_experts": 6,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "first_k_dense_replace": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 56,
    "type_vocab_size": 3,
    "pad_token_id": 0,
    "kv_lora_rank": 20,
    "q_lora_rank": 28,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 14,
    "n_group": 1,
    "topk_group": 1,
    "index_n_heads": 3,
    "index_head_dim": 16,
    "index_topk": 6,
    "num_shared_experts": 2,
}


def small_config(model_type: str, **changes: Any) -> dict[str, Any]:
    """A config.json of few keys for a type: the small sizes that its class knows, and `changes`; the rest is left to
    the class's defaults."""
    config_class = CONFIG_MAPPING[model_type]
    known = {field.name for field in dataclasses.fields(config_class)}
    config: dict[str, Any] = {"model_type": model_type}
    for key, value in SMALL.items():
        name = config_class.attribute_map.get(key, key)
        if name in known:
            config[name] = value
    if "kv_lora_rank" in known and "num_key_value_heads" in config:  # latents are expanded to one key a query head
        config["num_key_value_heads"] = config["num_attention_heads"]
    return config | changes


def configuration(config: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration object of a config.json."""
    rest = {key: value for key, value in config.items() if key not in ("model_type", "auto_map", "quantization_config")}
    return CONFIG_MAPPING[config["model_type"]](**rest)


def classes(model_type: str) -> list[str]:
    """Every model class whose configuration is that of the type, base model first."""
    config_class = CONFIG_MAPPING[model_type]
    name = config_class.__module__.replace(".configuration_", ".modeling_")
    if find_spec(name) is None:  # a type that borrows another's class
        return [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]]
    module = import_module(name)
    return [
        name
        for name in module.__all__
        if inspect.isclass(found := getattr(module, name))
        and issubclass(found, PreTrainedModel)
        and "PreTrained" not in name
        and getattr(found, "config_class", None) is config_class
    ]


def parameters(config: Mapping[str, Any]) -> int:
    """Parameters of the class that `architectures` names, tied weights once."""
    with torch.device("meta"):
        model = getattr(transformers, config["architectures"][0])(configuration(config))
    return sum(parameter.numel() for parameter in model.parameters())


def as_loaded(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model with every parameter in `dtype`, but those that its class keeps in float32 when it loads a file."""
    keys = tuple(model._keep_in_fp32_modules_strict or ())
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if any(key in name for key in keys) else dtype)
    return model


def cached_elements(config: Mapping[str, Any], tokens: int) -> list[int]:
    """Elements that each layer's cache holds after a forward pass over `tokens` tokens."""
    torch.manual_seed(0)
    model = getattr(transformers, config["architectures"][0])(configuration(config)).eval()
    with torch.no_grad():
        cache = model(torch.ones(1, tokens, dtype=torch.long), use_cache=True).past_key_values
    return [sum({id(tensor): tensor.numel() for tensor in _kept(vars(layer))}.values()) for layer in cache.layers]


def _kept(value: Any) -> Iterator[torch.Tensor]:
    """Every floating-point tensor in it; a tensor that stands under two names comes twice."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _kept(item)


def windows(config: Mapping[str, Any]) -> list[int | None]:
    """The window of each layer of the cache; None for full attention."""
    layers = DynamicCache(config=configuration(config)).layers
    return [layer.sliding_window if layer.is_sliding else None for layer in layers]
