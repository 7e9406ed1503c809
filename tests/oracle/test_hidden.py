"""Readers of types that keep hidden states, or take no text: XLNet, Reformer, Moonshine against their classes."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import transformers

from hfmem.dtypes import find_dtype
from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.caches import COMPUTE, KV_DTYPE, Seen
from hfmem.mapper.facts import Facts
from hfmem.mapper.families import reader
from tests.oracle.reference import classes, configuration, parameters
from tests.oracle.test_families import flipped

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

_GRID = {"axial_pos_shape": [8, 16], "axial_pos_embds_dim": [24, 40], "max_position_embeddings": 128}
_SHORT = {"lsh_attn_chunk_length": 8, "local_attn_chunk_length": 8, "num_buckets": 4}

CONFIGS: dict[str, dict[str, Any]] = {
    "xlnet": {"d_model": 64, "n_head": 4, "n_layer": 3, "vocab_size": 96, "d_inner": 80},
    "reformer": {
        **_GRID,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "attention_head_size": 12,
        "attn_layers": ["local", "lsh", "lsh"],
        "feed_forward_size": 80,
        "vocab_size": 96,
    },
    "moonshine": {
        "hidden_size": 64,
        "encoder_num_attention_heads": 4,
        "encoder_num_hidden_layers": 3,
        "decoder_num_hidden_layers": 2,
        "intermediate_size": 80,
        "vocab_size": 96,
    },
}

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "xlnet": [
        {"mem_len": None},
        {"mem_len": 8},
        {"mem_len": 8, "reuse_len": 5},
        {"reuse_len": 15},
        {"use_mems_eval": False},
    ],
    "reformer": [
        {**_SHORT},
        {**_SHORT, "num_hashes": 3, "lsh_attn_chunk_length": 16},
        {**_SHORT, "lsh_attn_chunk_length": 24},
        {**_SHORT, "lsh_attn_chunk_length": 24, "local_attn_chunk_length": 16},
        {**_SHORT, "lsh_attn_chunk_length": 16, "local_attn_chunk_length": 24},
        {**_SHORT, "attn_layers": ["local"] * 2},
        {**_SHORT, "attn_layers": ["lsh"] * 2, "lsh_attn_chunk_length": 20},
        {**_SHORT, "attn_layers": ["lsh"] * 2, "lsh_attn_chunk_length": 21},
    ],
    "moonshine": [
        {"encoder_num_attention_heads": 2},
        {"decoder_num_attention_heads": 4, "decoder_num_key_value_heads": 1},
        {"pad_head_dim_to_multiple_of": 24},
    ],
}

# Changes whose class can be built, but does not run: it cuts its queries into heads of keys.
BUILT_ONLY: dict[str, list[dict[str, Any]]] = {"moonshine": [{"encoder_num_key_value_heads": 2}]}

SPEAKERS = {
    "xlnet": "XLNetLMHeadModel",
    "reformer": "ReformerModelWithLMHead",
    "moonshine": "MoonshineForConditionalGeneration",
}
TOKENS, SAMPLES = 21, 5000


def small(model_type: str, name: str, **changes: Any) -> dict[str, Any]:
    config = {"model_type": model_type, "architectures": [name], "pad_token_id": 0, **CONFIGS[model_type], **changes}
    return config | ({"is_decoder": name.endswith("WithLMHead")} if model_type == "reformer" else {})


def blueprint(config: dict[str, Any]) -> Blueprint:
    read = reader(config["model_type"])
    assert read is not None
    return read(Facts(config))


def kept(config: dict[str, Any]) -> tuple[list[list[torch.Tensor]], int]:
    """What each layer of a bfloat16 model keeps, and how many tokens its encoder made."""
    torch.manual_seed(0)
    model = getattr(transformers, config["architectures"][0])(configuration(config)).eval().to(torch.bfloat16)
    tokens = torch.full((1, TOKENS), 5)
    with torch.no_grad():
        if config["model_type"] == "moonshine":
            sound = torch.zeros(1, SAMPLES, dtype=torch.bfloat16)
            found = model(input_values=sound, decoder_input_ids=tokens, use_cache=True)
            cache = found.past_key_values
            both = zip(cache.self_attention_cache.layers, cache.cross_attention_cache.layers, strict=True)
            states = [[own.keys, own.values, other.keys, other.values] for own, other in both]
            return states, found.encoder_last_hidden_state.shape[1]
        found = model(input_ids=tokens)
    if config["model_type"] == "xlnet":
        return [[states] for states in found.mems or [torch.empty(0)] * model.config.n_layer], 0
    cache = found.past_buckets_states
    return [list(pair) for pair in zip(cache.states_cache, cache.buckets_cache, strict=True)], 0


def sizes(layers: list[list[torch.Tensor]]) -> list[int]:
    return [sum(tensor.numel() * tensor.element_size() for tensor in layer) for layer in layers]


def told(config: dict[str, Any], source: int) -> list[int]:
    """Bytes that each layer keeps of one sequence, as the reader tells."""
    layers = blueprint(config).architecture.layers
    assert layers is not None
    found = []
    for layer in layers:
        parts = layer.cache.parts(Seen(tokens=TOKENS, source=source))
        dtypes = [find_dtype("bfloat16" if part.dtype in (KV_DTYPE, COMPUTE) else part.dtype) for part in parts]
        found.append(sum(dtype.nbytes(part.elements) for part, dtype in zip(parts, dtypes, strict=True) if dtype))
    return found


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_class_has_as_many_parameters(model_type: str) -> None:
    for name in classes(model_type):
        config = small(model_type, name, num_labels=3)
        found = blueprint(config).parameters
        assert found is not None, name
        assert found.total == parameters(config), name


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_flag_and_variant_has_as_many_parameters(model_type: str) -> None:
    names = [SPEAKERS[model_type]] + [name for name in classes(model_type) if name.endswith("SequenceClassification")]
    for changes in [*flipped(model_type), *VARIANTS[model_type], *BUILT_ONLY.get(model_type, [])]:
        for name in names:
            config = small(model_type, name, **changes)
            found = blueprint(config).parameters
            assert found is not None
            assert found.total == parameters(config), (name, changes)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_layer_keeps_as_much(model_type: str) -> None:
    for changes in [{}, *VARIANTS[model_type]]:
        config = small(model_type, SPEAKERS[model_type], **changes)
        layers, source = kept(config)
        assert told(config, source) == sizes(layers), changes


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_file_that_says_everything_and_one_that_leaves_out_defaults_agree(model_type: str) -> None:
    config = small(model_type, SPEAKERS[model_type])
    full = configuration(config).to_dict()
    assert blueprint(full).groups == blueprint(config).groups
    assert blueprint(full).architecture.layers == blueprint(config).architecture.layers
