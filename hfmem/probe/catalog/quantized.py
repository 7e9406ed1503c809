"""The stored form of a table under the config's quantization: packed weights, scales, zero points.

Each scheme is a function from the shape of a weight to the tensors that replace it. The config's lists determine which
weights it applies to, interpreted like the quantizer does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any, Final

from hfmem.probe.catalog.tables import Shape, Table

__all__ = ["quantization", "stored"]

Scheme = Callable[[Shape], Table]
"""Suffix (`weight_scale`) to dtype and shape, from the shape of the plain weight `[out, in]`."""

# Weights of two dimensions that are not of linear layers, or that none of the schemes below quantizes: embeddings,
# heads, routers, and small projections that checkpoints keep in 16 bits.
_KEPT: Final = re.compile(
    r"(embed|wte\.|lm_head|^head\.|shared_head\.head|output_layer|norm|conv|\.gate\.weight|router|eh_proj|weights_proj|A_log)"
)


def quantization(config: dict[str, Any]) -> dict[str, Any] | None:
    """The quantization config, from the top level or from `text_config`; None for an unquantized checkpoint.

    `scope` is the prefix of the modules that it applies to: `language_model.` if it is in `text_config`.
    """
    for part, scope in ((config, ""), (config.get("text_config") or {}, "language_model.")):
        found = part.get("quantization_config")
        if found:
            return {**found, **found.get("quantization", {}), "scope": scope}  # hf_quant_config.json nests them
    return None


def stored(contents: Table, config: dict[str, Any]) -> Table:
    """The table with each quantized weight replaced by its stored tensors.

    Raises:
        ValueError: the method is not supported.
    """
    facts = quantization(config)
    if facts is None:
        return contents
    if facts.get("quant_method") == "mxfp4":
        return _mxfp4(contents)
    if config.get("model_type") == "deepseek_v4":
        return _deepseek_v4(contents, facts)
    scheme = _scheme(facts, config)
    taken = _selection(facts)
    result: Table = {}
    for name, (dtype, shape) in contents.items():
        module = name.removesuffix(".weight")
        if module != name and len(shape) == 2 and not _KEPT.search(name) and taken(module):
            result |= {f"{module}.{suffix}": value for suffix, value in scheme(shape).items()}
        else:
            result[name] = (dtype, shape)
    return result


def _selection(facts: dict[str, Any]) -> Callable[[str], bool]:
    """A predicate for modules quantized according to the config's lists, in which `re:` marks a regular expression and
    `*` a glob."""
    listed = [
        *(facts.get("modules_to_not_convert") or ()),
        *(facts.get("exclude_modules") or facts.get("ignore") or ()),
    ]
    exact = {entry for entry in listed if "*" not in entry and not entry.startswith("re:")}
    globs = [entry for entry in listed if "*" in entry and not entry.startswith("re:")]
    expressions = [re.compile(entry[3:]) for entry in listed if entry.startswith("re:")]

    def taken(module: str) -> bool:
        if (
            not module.startswith(facts["scope"])
            or module in exact
            or any(module.startswith(f"{entry}.") for entry in exact)
        ):
            return False
        return not any(fnmatch(module, glob) for glob in globs) and not any(rule.match(module) for rule in expressions)

    return taken


def _scheme(facts: dict[str, Any], config: dict[str, Any]) -> Scheme:
    method, algorithm = facts.get("quant_method"), facts.get("quant_algo")
    if algorithm == "NVFP4":
        return _nvfp4
    if algorithm == "FP8":
        return _fp8_tensor
    if method == "fp8" and facts.get("weight_block_size"):
        rows, columns = facts["weight_block_size"]
        # Qwen3 stores the scales in bfloat16 (HabanaAI/vllm-fork pull request 2141), DeepSeek and GLM in float32
        scale = "BF16" if config["model_type"].startswith("qwen3") else "F32"
        return lambda shape: _fp8_block(shape, rows, columns, scale)
    if method == "compressed-tensors":
        return _compressed_tensors(facts)
    raise ValueError(f"no scheme for {method or algorithm}")


def _fp8_block(shape: Shape, rows: int, columns: int, scale: str) -> Table:
    """FP8 with one scale per block (arXiv 2412.19437, section 3.3.2; the layout that DeepSeek-V3 published)."""
    out, width = shape
    return {"weight": ("F8_E4M3", shape), "weight_scale_inv": (scale, (-(-out // rows), -(-width // columns)))}


def _fp8_tensor(shape: Shape) -> Table:
    """ModelOpt's FP8: one scale for the weight and one for its input (`modelopt.torch.export`)."""
    return {"weight": ("F8_E4M3", shape), "weight_scale": ("F32", ()), "input_scale": ("F32", ())}


def _nvfp4(shape: Shape) -> Table:
    """ModelOpt's NVFP4: two values per byte, an FP8 scale per 16, one scale for the weight, one for its input."""
    out, width = shape
    return {
        "weight": ("U8", (out, width // 2)),
        "weight_scale": ("F8_E4M3", (out, width // 16)),
        "weight_scale_2": ("F32", ()),
        "input_scale": ("F32", ()),
    }


def _compressed_tensors(facts: dict[str, Any]) -> Scheme:
    (group,) = facts["config_groups"].values()
    weights = group["weights"]
    if facts["format"] == "pack-quantized" and weights["strategy"] == "group":
        return lambda shape: _packed(shape, weights["num_bits"], weights["group_size"])
    raise ValueError(f"no scheme for {facts['format']}, {weights['strategy']}")


def _packed(shape: Shape, bits: int, size: int) -> Table:
    """compressed-tensors' `pack-quantized`: 32/bits values per int32, a scale per group, and the unpacked shape."""
    out, width = shape
    return {
        "weight_packed": ("I32", (out, width * bits // 32)),
        "weight_scale": ("BF16", (out, width // size)),
        "weight_shape": ("I32", (2,)),
    }


def _mxfp4(contents: Table) -> Table:
    """gpt-oss: fused experts in blocks of 32 values with 16 bytes, and one exponent per block.

    The class has `[experts, in, out]`, the files `[experts, out, in/32, 16]` (openai/gpt-oss, `torch/weights.py`).
    """
    result: Table = {}
    for name, (dtype, shape) in contents.items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            experts, width, out = shape
            result[f"{name}_blocks"] = ("U8", (experts, out, width // 32, 16))
            result[f"{name}_scales"] = ("U8", (experts, out, width // 32))
        else:
            result[name] = (dtype, shape)
    return result


# DeepSeek-V4: linear layers in FP8 with one exponent per block of 128 × 128, and tensors in float32. Together they give
# the published counts of V4-Flash: BF16 1,415,259,264, F32 36,168,018, F8_E8M0 8,858,737,664, F8_E4M3 6,023,020,544.
_V4_FP8: Final = re.compile(
    r"(attn\.(wq_a|wq_b|wkv|wo_a|wo_b)|indexer\.wq_b|shared_experts\.w[123]|mtp\.\d+\.[eh]_proj)\.weight$"
)
_V4_F32: Final = re.compile(r"(hc_(attn|ffn|head)_(fn|base|scale)|attn_sink|\.ape|gate\.bias)$")


def _deepseek_v4(contents: Table, facts: dict[str, Any]) -> Table:
    """Experts in FP4, two values per byte with an exponent per 32 values; in NVFP4 if the config says so, except in
    `mtp`."""
    result: Table = {}
    for name, (dtype, shape) in contents.items():
        module = name.removesuffix(".weight")
        if ".ffn.experts." in name and facts.get("moe_quant_algo") == "NVFP4" and not name.startswith("mtp."):
            result |= {f"{module}.{suffix}": value for suffix, value in _nvfp4(shape).items()}
        elif ".ffn.experts." in name:
            result |= {
                name: ("I8", (shape[0], shape[1] // 2)),
                f"{module}.scale": ("F8_E8M0", (shape[0], shape[1] // 32)),
            }
        elif _V4_FP8.search(name):
            blocks = (-(-shape[0] // 128), -(-shape[1] // 128))
            result |= {name: ("F8_E4M3", shape), f"{module}.scale": ("F8_E8M0", blocks)}
        else:
            result[name] = ("F32" if _V4_F32.search(name) else dtype, shape)
    return result
