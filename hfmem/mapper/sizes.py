"""The named sizes in which measured coefficients are expressed.

Common sizes are named as in `Layer`. In addition, every integer in the text model's config is available under its own
key, for sizes that only some architectures have (state size, rank of a projection).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hfmem.mapper.caches import KV, Cache, Combined, CrossKV, Indexed, Latent, Shared, State
from hfmem.mapper.facts import Facts
from hfmem.mapper.values import Architecture, Dense, Experts, Layer

__all__ = [
    "NULLABLE",
    "OWN_WIDTH",
    "UNGROUPED",
    "configured_sizes",
    "decides",
    "layer_sizes",
    "model_sizes",
    "model_types",
    "part_sizes",
    "signature",
    "switched_structure",
    "token_sizes",
]

_CHUNK: Final = re.compile(r"(^|_)(chunk|block)_size$")

_TEXT_PARTS: Final = (
    "thinker_config",
    "text_config",
    "llm_config",
    "language_config",
    "language_model",
    "text_model",
    "decoder",
)


def configured_sizes(config: Mapping[str, Any]) -> dict[str, int]:
    """All positive integers of the text model's config, from the file or else its config class."""
    found: dict[str, int] = {}
    for facts in _parts(config):
        found |= {name: value for name, value in facts.whole_numbers().items() if value > 0}
    return found


# Names of flags that change what a layer computes; for other flags only a measurement can tell.
_STRUCTURE: Final = re.compile(r"(parallel|new_decoder|multi_query|alibi|gated|qk_(layer)?norm|norm(alize)?_before)")

NULLABLE: Final = ("q_lora_rank",)
"""Sizes that, if null, change what a layer computes."""

OWN_WIDTH: Final = ("word_embed_proj_dim",)
"""Embedding sizes that, if they differ from the hidden size, add a projection."""


UNGROUPED: Final = "ungrouped"
"""What stands for as many KV heads as query heads. Keys and values are copied for groups of query heads, and saved
as copies; without groups they are saved themselves, which for views of a fused projection keeps all of it alive."""

_ACTIVATIONS: Final = ("hidden_act", "activation_function", "hidden_activation", "feed_forward_proj")

# Activation functions with one kernel that saves its input for backward; others save more, or their output.
_ONE_KERNEL: Final = ("gelu", "gelu_pytorch_tanh", "silu", "swish")


def decides(key: str) -> bool:
    """Whether a switched key is known by its name to change what layers compute."""
    return key in NULLABLE or key in OWN_WIDTH or "=" in key or _STRUCTURE.search(key) is not None


def switched_structure(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Sorted keys that may change what a layer computes, and differ from the config class's defaults: flags, sizes that
    are null, embedding sizes, activation functions that save other tensors (`key=value`), and `UNGROUPED`."""
    found: set[str] = set()
    for facts in _parts(config):
        numbers = facts.whole_numbers()
        hidden = numbers.get("hidden_size", numbers.get("d_model"))
        found |= {*facts.switched(), *(key for key in NULLABLE if facts.lacks(key))}
        found |= {key for key in OWN_WIDTH if numbers.get(key, hidden) != hidden}
        heads = numbers.get("num_attention_heads")
        if heads is not None and numbers.get("num_key_value_heads", heads) == heads:
            found.add(UNGROUPED)
        words = {key: pair for key, pair in facts.replaced().items() if key in _ACTIVATIONS}
        found |= {f"{key}={own}" for key, (own, other) in words.items() if not {own, other} <= {*_ONE_KERNEL}}
    return tuple(sorted(found))


def model_types(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The model type of the whole, then that of its text model if it differs."""
    return tuple(dict.fromkeys(facts.model_type for facts in _parts(config) if facts.model_type))


def _parts(config: Mapping[str, Any]) -> list[Facts]:
    """The config, and the nested configs that lead to its text model."""
    found = [Facts(config)]
    for _ in range(2):  # at most two levels, as in Qwen-Omni: `thinker_config.text_config`
        facts = found[-1]
        key = next((key for key in _TEXT_PARTS if facts.part(key) is not None or facts.fixes(key)), None)
        if key is None:
            break
        found.append(facts.nested(key))
    return found


def model_sizes(config: Mapping[str, Any], architecture: Architecture, index: int) -> dict[str, int]:
    """The sizes for one layer, or for the head if `index` is beyond the last layer: its own, else that of the first
    layer with such a size, else that of the config."""
    return part_sizes(configured_sizes(config), architecture, index)


def part_sizes(configured: Mapping[str, int], architecture: Architecture, index: int) -> dict[str, int]:
    """As `model_sizes`, with the config's sizes given."""
    layers = architecture.layers or ()
    others: dict[str, int] = {}
    for layer in dict.fromkeys(layers):
        others = {**layer_sizes(architecture, layer), **others}  # the first layer with a size counts
    own = layer_sizes(architecture, layers[index]) if index < len(layers) else {}
    return {**configured, **others, **own}


def token_sizes(batch: int, seq: int, sizes: Mapping[str, int], source: int = 0, past: int = 0) -> dict[str, int]:
    """Token counts: batch size `b`, tokens per sequence `s`, encoder tokens `source`, cached tokens `past`, `seen` =
    past + s; and for scans the number of chunks and the tokens in the last one. Chunk sizes are those in the config,
    else 64, the constant of the delta-rule kernels. An encoder pads its tokens to whole blocks of the config's size."""
    # which of several chunk sizes a scan uses shows only in the coefficients, so all are offered
    widths = {name: value for name, value in sizes.items() if _CHUNK.search(name)}
    found = {"b": batch, "s": seq} | ({"source": source} if source else {})
    found |= {"past": past, "seen": past + seq} if past else {}
    for name, width in (widths or {"64": 64}).items():
        chunks = -(-seq // width)
        found |= {f"chunks_of_{name}": chunks, f"last_of_{name}": seq - (chunks - 1) * width}
    if source:
        found |= {f"source_chunks_of_{name}": -(-source // width) for name, width in widths.items()}
    return found


def layer_sizes(architecture: Architecture, layer: Layer) -> dict[str, int]:
    """The common sizes of one layer; those that it does not have are absent."""
    found = {
        "hidden": architecture.hidden_size,
        "vocab": architecture.vocab_size,
        "heads": layer.heads,
        **_cache_sizes(layer.cache),
        **_ffn_sizes(layer),
    }
    sizes = {name: value for name, value in found.items() if value}
    return sizes | _repeated(sizes) if "heads" in sizes else sizes  # e.g. recurrent layers have no heads


def _repeated(sizes: Mapping[str, int]) -> dict[str, int]:
    """KV heads that attention reads after `repeat_kv` of transformers. `grouped_heads` (eager): a copy for every query
    head. `repeated_heads` (fused kernels): the same, except that a single KV head is expanded as a view."""
    heads, own = sizes["heads"], sizes.get("kv_heads", sizes["heads"])
    return {"grouped_heads": heads, "repeated_heads": heads if own > 1 else own}


def signature(layer: Layer) -> str:
    """The layer's kind and feed-forward type; layers with the same signature differ only in sizes."""
    kind = layer.kind
    if isinstance(layer.cache, Shared):
        kind = f"shared {'full' if layer.cache.source.window is None else 'sliding'}_attention"
    if isinstance(layer.cache, Combined) and any(isinstance(part, CrossKV) for part in layer.cache.caches):
        kind += " beside an encoder's"
    ffn = "none" if layer.ffn is None else type(layer.ffn).__name__.lower()
    if isinstance(layer.ffn, Dense) and layer.ffn.sparse:
        ffn = "sparse dense"
    if isinstance(layer.ffn, Experts) and layer.ffn.shared:
        ffn = "experts beside shared ones"
    return f"{kind}, {ffn}"


def _cache_sizes(cache: Cache) -> dict[str, int | None]:
    if isinstance(cache, Combined):
        found: dict[str, int | None] = {}
        for part in reversed(cache.caches):  # the first part takes precedence, e.g. self-attention over cross-attention
            found |= _cache_sizes(part)
        return found
    if isinstance(cache, Indexed):
        return {**_cache_sizes(cache.attention), "index_dim": cache.index_dim}
    if isinstance(cache, KV):
        return {
            "kv_heads": cache.heads,
            "key_dim": cache.key_dim,
            "value_dim": cache.value_dim or cache.key_dim,
            "window": cache.window,
        }
    if isinstance(cache, Latent):
        return {
            "rank": cache.rank,
            "rope_dim": cache.rope_dim,
            "key_dim": cache.key_dim,
            "value_dim": cache.value_dim,
            "kv_heads": cache.heads,
            "window": cache.window,
        }
    if isinstance(cache, Shared):
        return _cache_sizes(cache.source)
    return {"channels": cache.channels} if isinstance(cache, State) else {}


def _ffn_sizes(layer: Layer) -> dict[str, int]:
    if isinstance(layer.ffn, Dense):
        return {"intermediate": layer.ffn.intermediate}
    if isinstance(layer.ffn, Experts):
        return {
            "expert_intermediate": layer.ffn.intermediate,
            "per_token": layer.ffn.per_token,
            "experts": layer.ffn.count,
            "shared": layer.ffn.shared,
        }
    return {}
