"""Layers with a state, against recorded measurements of the classes they describe and against published figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from hfmem.dtypes import find_dtype
from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.caches import COMPUTE, KV, KV_DTYPE, Cache, Combined, Part, Seen
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families import reader
from hfmem.mapper.values import Layer

RECORDED = json.loads((Path(__file__).parents[2] / "fixtures" / "oracle" / "states.json").read_text())
ROWS = {row["model"]: row for row in RECORDED["models"]}


def blueprint(model: str, **changes: Any) -> Blueprint:
    config = ROWS[model]["config"] | changes
    read = reader(config["model_type"])
    assert read is not None
    return read(Facts(config))


def layers(model: str, **changes: Any) -> tuple[Layer, ...]:
    found = blueprint(model, **changes).architecture.layers
    assert found is not None
    return found


def kept(layer: Layer, tokens: int, less: int = 0) -> dict[str, int]:
    """Bytes of one sequence by dtype, of a bfloat16 model; windows shorter by `less`."""
    sums: dict[str, int] = {}
    for part in parts(layer.cache, tokens, less):
        name = "bfloat16" if part.dtype in (KV_DTYPE, COMPUTE) else part.dtype
        dtype = find_dtype(name)
        assert dtype is not None
        sums[name] = sums.get(name, 0) + dtype.nbytes(part.elements)
    return dict(sorted(sums.items()))


def parts(cache: Cache, tokens: int, less: int) -> Iterator[Part]:
    if isinstance(cache, Combined):
        for inner in cache.caches:
            yield from parts(inner, tokens, less)
    else:
        window = cache.window if isinstance(cache, KV) else None
        yield from cache.parts(Seen(tokens=tokens if window is None else min(tokens, window - less)))


@pytest.mark.parametrize("model", ROWS)
def test_parameters_are_those_of_the_class(model: str) -> None:
    found = blueprint(model).parameters
    assert found is not None
    assert found.total == ROWS[model]["parameters"]
    assert sum(found.by_component.values()) == found.total
    assert 0 < found.active <= found.total


@pytest.mark.parametrize("model", ROWS)
def test_layers_keep_what_those_of_the_class_keep(model: str) -> None:
    """The implementation keeps one token less than a window: the next one takes its place."""
    sizes = [kept(layer, RECORDED["tokens"], less=1) for layer in layers(model)]
    assert [[len(list(equal)), size] for size, equal in groupby(sizes)] == ROWS[model]["kept"]


@pytest.mark.parametrize("model", ROWS)
def test_a_state_does_not_grow_and_keys_and_values_do(model: str) -> None:
    for layer in layers(model):
        grows = layer.elements(2000) > layer.elements(1000)
        assert grows == (layer.kind in ("full_attention", "indexed_attention", "hybrid"))
        assert (layer.heads > 0) == (layer.kind not in ("linear_attention", "conv", "none"))
        assert (layer.elements(1000) == 0) == (layer.kind == "none")


# Weights that checkpoints hold besides the class's: a multi-token-prediction layer, and biases of routers.
_MTP_35B = (
    256 * 3 * 2048 * 512  # experts
    + 3 * 2048 * 512
    + 2048
    + 256 * 2048  # the shared expert, its gate, the router
    + 2 * 16 * 256 * 2048
    + 2 * 2 * 256 * 2048
    + 16 * 256 * 2048  # queries with their gates, keys and values, output
    + 2 * 2048 * 2048  # the projection of embedding and hidden state
    + 5 * 2048
    + 2 * 256  # norms
)
_HUB = "the Hub's safetensors.total"

# (model, parameters, where the figure is published)
PUBLISHED = [
    ("LiquidAI/LFM2-1.2B", 1_170_340_608, "its safetensors header"),
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 31_577_937_344, _HUB),
    ("ibm-granite/granite-4.0-h-small", 32_207_337_984, _HUB),
    ("MiniMaxAI/MiniMax-M1-80k", 456_089_655_296, _HUB),
    ("Qwen/Qwen3.5-35B-A3B", 35_951_822_704 - _MTP_35B, f"{_HUB}, less the layer that predicts a second token"),
]


@pytest.mark.parametrize(("model", "parameters", "_source"), PUBLISHED)
def test_parameters_are_as_published(model: str, parameters: int, _source: str) -> None:
    found = blueprint(model).parameters
    assert found is not None
    assert found.total == parameters


_GIB = 1 << 30

# (model, bytes of all keys and values at 262,144 tokens, bytes of all states, how a person counts them)
LONG = [
    (
        "ai21labs/AI21-Jamba-1.5-Mini",
        4 * _GIB,
        28 * 8192 * (4 * 2 + 16 * 4),
        "4 layers of 8 heads of 128; 28 of 8,192 channels, with 4 positions and 16 numbers in float32",
    ),
    (
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        6 * _GIB,
        36 * (8192 * 4 * 2 + 32 * 128 * 128 * 4),
        "12 layers of 2 heads of 256; 36 of 32 heads of 128 × 128 in float32: 6.07 GiB together",
    ),
    (
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        6 * 262_144 * 2 * 2 * 128 * 2,
        23 * (6144 * 4 * 2 + 64 * 64 * 128 * 4),
        "6 layers of 2 heads of 128; 23 of 64 heads of 64 × 128 in float32; 23 keep nothing",
    ),
    (
        "mistralai/Mamba-Codestral-7B-v0.1",
        0,
        64 * (10_240 * 4 * 2 + 128 * 64 * 128 * 4),
        "no attention",
    ),
]


@pytest.mark.parametrize(("model", "cache", "states", "_how"), LONG)
def test_what_is_kept_of_a_long_sequence(model: str, cache: int, states: int, _how: str) -> None:
    found = [kept(layer, 262_144) for layer in layers(model)]
    assert sum(sum(size.values()) for size in found) == cache + states
    fixed = [kept(layer, 0) for layer in layers(model)]
    assert sum(sum(size.values()) for size in fixed) == states


# (model, changed keys, layers by kind)
KINDS = [
    ("ai21labs/AI21-Jamba-1.5-Mini", {}, {"linear_attention": 28, "full_attention": 4}),
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", {}, {"linear_attention": 23, "none": 23, "full_attention": 6}),
    (
        "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
        {},
        {"linear_attention": 48, "none": 48, "full_attention": 12},
    ),
    (
        "sizes/nemotron_h-0",
        {"hybrid_override_pattern": "M-M*"},
        {"linear_attention": 2, "none": 1, "full_attention": 1},
    ),
    ("LiquidAI/LFM2-1.2B", {}, {"conv": 10, "full_attention": 6}),
    ("sizes/falcon_h1-0", {}, {"hybrid": 6}),
    ("sizes/zamba-0", {}, {"linear_attention": 4, "hybrid": 2}),
    ("sizes/recurrent_gemma-0", {}, {"linear_attention": 4, "sliding_attention": 2}),
    ("sizes/minimax-0", {}, {"full_attention": 3, "linear_attention": 3}),
    ("sizes/granitemoehybrid-0", {"layer_types": None}, {"linear_attention": 6}),
]


@pytest.mark.parametrize(("model", "changes", "kinds"), KINDS)
def test_layers_by_kind(model: str, changes: dict[str, Any], kinds: dict[str, int]) -> None:
    assert blueprint(model, **changes).architecture.layer_kinds == kinds


# (model, parameters that one token uses, how a person counts them)
ACTIVE = [
    (
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        31_577_937_344 - 23 * (128 - 6) * 2 * 2688 * 1856,
        "all but 122 of 128 experts a layer",
    ),
    (
        "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
        549_308_968_960 - 48 * (512 - 22) * 2 * 2048 * 5120,
        "all but 490 of 512 experts a layer, which work in a latent space",
    ),
    (
        "ai21labs/AI21-Jamba-1.5-Mini",
        51_570_323_328 - 16 * 14 * 3 * 4096 * 14_336,
        "all but 14 of 16 experts in every second layer",
    ),
    ("LiquidAI/LFM2-1.2B", 1_170_340_608, "a dense model uses all"),
]


@pytest.mark.parametrize(("model", "active", "_how"), ACTIVE)
def test_a_token_uses_its_experts_and_everything_else(model: str, active: int, _how: str) -> None:
    found = blueprint(model).parameters
    assert found is not None
    assert found.active == active


def test_a_model_without_attention_has_no_heads() -> None:
    found = blueprint("tiiuae/falcon-mamba-7b").architecture
    assert (found.attention_heads, found.kv_heads, found.head_dim) == (None, None, None)


def test_a_file_of_zamba_2_that_is_older_than_the_class_tells_its_heads_by_their_size() -> None:
    """Its sizes have other names: 14,336 / 2 channels in heads of 64, where the class would assume 8 heads."""
    older = {
        "n_mamba_heads": 7168 // 64,
        "adapter_rank": 128,
        "mamba_d_state": 64,
        "mamba_d_conv": 4,
        "intermediate_size": 14_336,
    }
    sizes = {"hidden_size": 3584, "mamba_ngroups": 2, "num_mem_blocks": 2, "num_hidden_layers": 54}
    newer = Facts({"model_type": "zamba2", **sizes, **older})
    names = {"mamba_headdim": 64, "state_size": 64, "conv_dimension": 4, "ffn_hidden_size": 14_336, "lora_rank": 128}
    read = reader("zamba2")
    assert read is not None
    assert read(Facts({"model_type": "zamba2", **sizes, **names})) == read(newer)


def test_quantisers_replace_projections_but_no_convolution_and_no_decay() -> None:
    found = blueprint("sizes/qwen3_next-0").parameters
    assert found is not None
    roles = {group.role for group in found.groups if group.component == "state" and group.linear}
    assert roles == {"in_proj_qkvz", "in_proj_ba", "out_proj"}


# (model, changed keys, what is said)
REFUSED = [
    ("sizes/lfm2-0", {"layer_types": ["conv"] * 2}, "layer_types has 2 entries for 6 layers"),
    ("sizes/zamba-0", {"layers_block_type": ["hybrid"]}, "layer_types has 1 entries for 6 layers"),
    (
        "sizes/qwen3_next-0",
        {"layer_types": ["chunked_attention"] * 6},
        "'chunked_attention', which is not a layer type of qwen3_next",
    ),
    ("sizes/nemotron_h-0", {"hybrid_override_pattern": "MX"}, "hybrid_override_pattern is 'MX'"),
    ("sizes/recurrent_gemma-0", {"block_types": ["mamba"]}, "block_types has 'mamba'"),
    ("sizes/kimi_linear-0", {"mlp_layer_types": ["dense"]}, "mlp_layer_types has 1 entries for 6 layers"),
]


@pytest.mark.parametrize(("model", "changes", "reason"), REFUSED)
def test_kinds_that_do_not_fit_are_refused(model: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidConfigError, match=reason):
        blueprint(model, **changes)


def test_a_class_without_a_default_for_its_layers_needs_them_in_the_file() -> None:
    config = {key: value for key, value in ROWS["sizes/lfm2_moe-0"]["config"].items() if key != "layer_types"}
    read = reader("lfm2_moe")
    assert read is not None
    with pytest.raises(MissingFactError, match="layer_types"):
        read(Facts(config))


def test_layers_of_a_reformer_by_what_they_attend_to() -> None:
    """modeling_reformer.py: local and hashed attention, with a cache in a decoder, and none elsewhere."""
    sizes = {"model_type": "reformer", "attn_layers": ["local", "lsh"], "is_decoder": True}
    read = reader("reformer")
    assert read is not None
    for decodes, kinds in ((True, ["local", "lsh"]), (False, ["none", "none"])):
        name = "ReformerModelWithLMHead" if decodes else "ReformerForMaskedLM"
        config = {**sizes, "is_decoder": decodes, "architectures": [name]}
        assert [layer.kind for layer in read(Facts(config)).architecture.layers or ()] == kinds
