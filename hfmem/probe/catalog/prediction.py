"""Multi-token-prediction (MTP) layers, which files contain but the class of `transformers` does not build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.probe.catalog.tables import Table, stored_dtype

__all__ = ["with_prediction_layers"]


def with_prediction_layers(contents: Table, config: dict[str, Any]) -> Table:
    """The table with the MTP layers by the config, in the layout of the family's files."""
    add = _FAMILIES.get(config.get("model_type", ""))
    return add(contents, config) if add else contents


def _extra_layers(contents: Table, config: dict[str, Any]) -> Table:
    """DeepSeek-V3's layout: MTP layers are numbered after the last layer, each with its own embedding and head.

    `model.layers.61.{eh_proj,enorm,hnorm,embed_tokens,shared_head.norm,shared_head.head}` in addition to the tensors of
    a normal layer (deepseek-ai/DeepSeek-V3, README_WEIGHTS.md).
    """
    count, end = config.get("num_nextn_predict_layers") or 0, config["num_hidden_layers"]
    last = _last_whole(contents, end)
    hidden, dtype = config["hidden_size"], stored_dtype(config)
    vocabulary = (dtype, (config["vocab_size"], hidden))
    own: Table = {
        "eh_proj.weight": (dtype, (hidden, 2 * hidden)),
        "enorm.weight": (dtype, (hidden,)),
        "hnorm.weight": (dtype, (hidden,)),
        "shared_head.norm.weight": (dtype, (hidden,)),
    }
    if config["model_type"] not in _SHARED_EMBEDDING:
        own |= {"embed_tokens.weight": vocabulary, "shared_head.head.weight": vocabulary}
    result = dict(contents)
    for index in range(count):
        prefix = f"model.layers.{end + index}."
        result |= {prefix + name: value for name, value in {**_layer(contents, f"model.layers.{last}."), **own}.items()}
    return result


def _last_whole(contents: Table, end: int) -> int:
    """The last layer with the most tensors, as the template for MTP layers. Some of GLM-5.2's layers share an indexer,
    but its MTP layer has one."""
    sizes = [len(_layer(contents, f"model.layers.{layer}.")) for layer in range(end)]
    return max(range(end), key=lambda layer: (sizes[layer], layer))


def _layer(contents: Table, prefix: str) -> Table:
    return {name.removeprefix(prefix): value for name, value in contents.items() if name.startswith(prefix)}


def _qwen(contents: Table, config: dict[str, Any]) -> Table:
    """Qwen3-Next's and Qwen3.5's layout: `mtp.layers.0` is a full-attention layer that uses the model's embedding and
    head."""
    text = config.get("text_config") or config
    prefix = "model.language_model.layers." if "text_config" in config else "model.layers."
    kinds = text.get("layer_types") or _periodic(text)
    whole = kinds.index("full_attention")
    hidden, dtype = text["hidden_size"], stored_dtype(config)
    own: Table = {
        "mtp.fc.weight": (dtype, (hidden, 2 * hidden)),
        "mtp.norm.weight": (dtype, (hidden,)),
        "mtp.pre_fc_norm_embedding.weight": (dtype, (hidden,)),
        "mtp.pre_fc_norm_hidden.weight": (dtype, (hidden,)),
    }
    layer = {f"mtp.layers.0.{name}": value for name, value in _layer(contents, f"{prefix}{whole}.").items()}
    return contents | layer | own


def _periodic(text: dict[str, Any]) -> list[str]:
    every = text["full_attention_interval"]
    return ["linear_attention"] * (every - 1) + ["full_attention"]


def _deepseek_v4(contents: Table, config: dict[str, Any]) -> Table:
    """DeepSeek-V4's layout: `mtp.N` is a layer without compressor and indexer, but with projections of both inputs and
    the hyper-connection tensors of the head."""
    hidden, dtype, last = config["hidden_size"], stored_dtype(config), config["num_hidden_layers"] - 1
    layer = {
        name: value
        for name, value in _layer(contents, f"layers.{last}.").items()
        if not name.startswith(("attn.compressor", "attn.indexer"))
    }
    layer |= {name: contents[name] for name in ("hc_head_fn", "hc_head_base", "hc_head_scale")}
    layer |= {f"{name}.weight": (dtype, (hidden,)) for name in ("enorm", "hnorm", "norm")}
    layer |= {f"{name}.weight": (dtype, (hidden, hidden)) for name in ("e_proj", "h_proj")}
    result = dict(contents)
    for index in range(config.get("num_nextn_predict_layers") or 0):
        result |= {f"mtp.{index}.{name}": value for name, value in layer.items()}
    return result


# The MTP layer uses the model's embedding and head, so the files have no second copy.
_SHARED_EMBEDDING: Final = frozenset({"glm_moe_dsa"})

_FAMILIES: Final[dict[str, Callable[[Table, dict[str, Any]], Table]]] = {
    "deepseek_v3": _extra_layers,
    "deepseek_v32": _extra_layers,
    "deepseek_v4": _deepseek_v4,
    "glm4_moe": _extra_layers,
    "glm_moe_dsa": _extra_layers,
    "qwen3_next": _qwen,
    "qwen3_5": _qwen,
    "qwen3_5_moe": _qwen,
}
