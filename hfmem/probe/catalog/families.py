"""How the files of a family differ from what `transformers` would save for its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.probe.catalog.tables import Table, elements, renamed, stored_dtype

__all__ = ["CLASSES", "adapt"]

Config = dict[str, Any]

# Architectures of custom code, and the equivalent transformers class.
CLASSES: Final[dict[str, str]] = {
    "KimiK25ForConditionalGeneration": "Kimi_K25ForConditionalGeneration",
    "PhiMoEForCausalLM": "PhimoeForCausalLM",
}


def adapt(contents: Table, config: Config) -> Table:
    """The table with the names and shapes of the family's files."""
    step = _FAMILIES.get(config.get("model_type", ""))
    return step(contents, config) if step else contents


def _fused_experts(contents: Table, config: Config) -> Table:
    """Qwen3.5's files store the experts of a layer in two tensors, like the class: `mlp.experts.gate_up_proj`.

    transformers 5.23 would save them separately, as it uses Qwen3-MoE's conversion.
    """
    text = config["text_config"]
    count, width, hidden = text["num_experts"], text["moe_intermediate_size"], text["hidden_size"]
    dtype = stored_dtype(config)
    result: Table = {}
    for name, value in contents.items():
        head, mark, _ = name.partition(".mlp.experts.")
        if not mark:
            result[name] = value
            continue
        result[f"{head}.mlp.experts.gate_up_proj"] = (dtype, (count, 2 * width, hidden))
        result[f"{head}.mlp.experts.down_proj"] = (dtype, (count, hidden, width))
    assert elements(result) == elements(contents)  # noqa: S101 - fusing keeps every element
    return result


def _transposed_experts(contents: Table, _: Config) -> Table:
    """Qwen3-VL-MoE's files store experts as `[experts, in, out]` (huggingface/transformers pull request 43201)."""
    fused = ("experts.gate_up_proj", "experts.down_proj")
    return {
        name: (dtype, (shape[0], shape[2], shape[1]) if name.endswith(fused) else shape)
        for name, (dtype, shape) in contents.items()
    }


def _shared_cache_layers(contents: Table, config: Config) -> Table:
    """Gemma 4's layers that reuse another layer's keys and values.

    The class builds no projections for them, but the files contain them, and the published totals of E2B and E4B count
    them.
    """
    text = config["text_config"]
    layers, shared = text["num_hidden_layers"], text.get("num_kv_shared_layers") or 0
    prefix = "model.language_model.layers."
    widths = [contents[f"{prefix}{layer}.self_attn.q_proj.weight"][1][0] for layer in range(layers)]
    result = dict(contents)
    for layer in range(layers - shared, layers):
        like = widths.index(widths[layer])  # the first layer of the same kind, which has its own keys and values
        for part in ("k_proj.weight", "v_proj.weight", "k_norm.weight"):
            source = f"{prefix}{like}.self_attn.{part}"
            if source in contents:
                result[f"{prefix}{layer}.self_attn.{part}"] = contents[source]
    return result


def _deepseek_v4(contents: Table, _: Config) -> Table:
    """DeepSeek-V4's files have no `model.` prefix, and short top-level names (`embed.weight`, `hc_head_fn`).

    The norms of keys and of compressors are both called `norm` after reverting the conversion; that of keys is
    `attn.kv_norm` in the files.
    """
    short = {"embed_tokens.": "embed.", "hc_head.hc_": "hc_head_", ".attn.norm.": ".attn.kv_norm."}

    def rename(name: str) -> str:
        name = name.removeprefix("model.")
        for long, abbreviation in short.items():
            name = name.replace(long, abbreviation)
        return name

    return renamed(contents, rename)


def _kimi_k25(contents: Table, _: Config) -> Table:
    """Kimi-K2.5: the reverted renames apply to too much (`blocks` also in the language model) or too little.

    The names in the files are `language_model.model.layers`, `mm_projector.pre_norm` and `vision_tower.patch_embed`, as
    in public loaders.
    """
    prefixes = {
        "language_model.model.blocks.": "language_model.model.layers.",
        "model.mm_projector.": "mm_projector.",
        "vision_tower.encoder.patch_embed.": "vision_tower.patch_embed.",
    }

    def rename(name: str) -> str:
        for reversed_, stored in prefixes.items():
            if name.startswith(reversed_):
                return stored + name.removeprefix(reversed_)
        return name

    return renamed(contents, rename)


_FAMILIES: Final[dict[str, Callable[[Table, Config], Table]]] = {
    "deepseek_v4": _deepseek_v4,
    "gemma4": _shared_cache_layers,
    "kimi_k25": _kimi_k25,
    "qwen3_5_moe": _fused_experts,
    "qwen3_vl_moe": _transposed_experts,
}
