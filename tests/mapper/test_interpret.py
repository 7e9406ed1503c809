"""Checkpoints understood: two roads to the parameters, what is not loaded, what is unknown and why."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from hfmem import estimate
from hfmem.fetcher.patterns import expand
from hfmem.fetcher.tensors import table_bytes
from hfmem.fetcher.values import Checkpoint, ModelRef, TensorInfo
from hfmem.mapper.interpret import Model, interpret
from tests.catalog import configs

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 10,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
ROWS = [
    ("model.embed_tokens.weight", "BF16", (10, 8)),
    ("model.layers.{0-1}.self_attn.q_proj.weight", "BF16", (8, 8)),
    ("model.layers.{0-1}.self_attn.k_proj.weight", "BF16", (4, 8)),
    ("model.layers.{0-1}.self_attn.v_proj.weight", "BF16", (4, 8)),
    ("model.layers.{0-1}.self_attn.o_proj.weight", "BF16", (8, 8)),
    ("model.layers.{0-1}.mlp.gate_proj.weight", "BF16", (16, 8)),
    ("model.layers.{0-1}.mlp.up_proj.weight", "BF16", (16, 8)),
    ("model.layers.{0-1}.mlp.down_proj.weight", "BF16", (8, 16)),
    ("model.layers.{0-1}.input_layernorm.weight", "BF16", (8,)),
    ("model.layers.{0-1}.post_attention_layernorm.weight", "BF16", (8,)),
    ("model.norm.weight", "BF16", (8,)),
    ("lm_head.weight", "BF16", (10, 8)),
]
TOTAL = 2 * 80 + 2 * (64 + 32 + 32 + 64 + 3 * 128 + 2 * 8) + 8


def model(config: dict[str, object] | None, rows: list[tuple[str, str, tuple[int, ...]]], **more: Any) -> Model:
    tensors = tuple(
        TensorInfo(name=name, dtype=dtype, shape=shape, nbytes=table_bytes(dtype, shape), file="model.safetensors")
        for name, dtype, shape in expand(rows)
    )
    ref = ModelRef(model_id="org/m")
    return interpret(
        Checkpoint(ref=ref, commit=None, source="hub", provenance="", config=config, tensors=tensors, **more)
    )


def test_both_roads_agree() -> None:
    by_headers, by_config = model(LLAMA, ROWS), model(LLAMA, [])
    assert by_headers.parameters is not None
    assert by_config.parameters is not None
    assert by_headers.parameters.total == by_config.parameters.total == TOTAL
    assert by_headers.parameters.by_component == by_config.parameters.by_component
    assert (by_headers.certainty, by_config.certainty) == ("exact", "derived")
    assert by_headers.notes == ()


def test_a_difference_between_the_roads_is_named() -> None:
    found = model(LLAMA, [*ROWS, ("model.layers.{0-1}.self_attn.q_proj.bias", "BF16", (8,))])
    assert any("attention +16" in note for note in found.notes)


def test_buffers_are_stored_and_no_parameters() -> None:
    found = model(LLAMA, [*ROWS, ("model.layers.{0-1}.self_attn.rotary_emb.inv_freq", "F32", (2,))])
    assert found.parameters is not None
    assert found.parameters.total == TOTAL
    assert found.parameters.stored == {"BF16": TOTAL, "F32": 4}
    assert any("rotary_emb.inv_freq" in note for note in found.notes)


def test_extra_prediction_layers_are_parameters_and_not_loaded() -> None:
    found = model(LLAMA, [*ROWS, ("model.layers.2.mlp.up_proj.weight", "BF16", (16, 8))])
    assert found.parameters is not None
    assert found.parameters.by_component["mtp"] == 128
    assert found.parameters.active == TOTAL
    assert any("multi-token prediction (MTP) layers" in note for note in found.notes)


def test_a_stored_copy_of_a_tied_head_is_counted_once() -> None:
    found = model(LLAMA | {"tie_word_embeddings": True}, ROWS)
    assert found.parameters is not None
    assert found.parameters.total == TOTAL - 80
    assert found.parameters.stored == {"BF16": TOTAL}


@pytest.mark.parametrize(
    ("rows", "quantisation", "parameters"),
    [
        (
            [("m.q_proj.qweight", "I32", (4, 8)), ("m.q_proj.scales", "F16", (1, 8)), ("m.q_proj.g_idx", "I32", (32,))],
            {"bits": 4},
            256,
        ),
        ([("m.q_proj.qweight", "I32", (4, 8)), ("m.q_proj.qzeros", "I32", (1, 1))], {"bits": 8}, 128),
        (
            [("m.mlp.experts.up_proj_blocks", "U8", (2, 4, 16)), ("m.mlp.experts.up_proj_scales", "U8", (2, 4))],
            {"quant_method": "mxfp4"},
            256,
        ),
        (
            [("m.q_proj.weight", "U8", (32, 1)), ("m.q_proj.weight.absmax", "F32", (1,))],
            {"load_in_4bit": True},
            64,
        ),
        (
            [("m.q_proj.weight", "F8_E4M3", (8, 8)), ("m.q_proj.weight_scale_inv", "F32", (1, 1))],
            {"quant_method": "fp8"},
            64,
        ),
        (
            [("m.q_proj.weight_packed", "I32", (8, 1)), ("m.q_proj.weight_scale", "BF16", (8, 1))],
            {"config_groups": {"g": {"weights": {"num_bits": 4}}}},
            64,
        ),
        (
            [("m.q_proj.weight", "U8", (8, 32)), ("m.q_proj.weight_scale", "F8_E4M3", (8, 4))],
            {"quant_method": "modelopt"},
            512,
        ),
        ([("m.q_proj.weight", "I8", (8, 8)), ("m.q_proj.SCB", "F32", (8,))], {"load_in_8bit": True}, 64),
        ([("m.q_proj.weight", "I8", (8, 4)), ("m.q_proj.scale", "F8_E8M0", (8, 1))], {"quant_method": "fp8"}, 64),
        ([("m.q_proj.weight", "F8_E4M3", (8, 8)), ("m.q_proj.weight_scale", "F32", (8, 1))], {}, 64),
        (
            [
                ("m.q_proj.weight", "U32", (8, 8)),
                ("m.q_proj.scales", "BF16", (8, 1)),
                ("m.q_proj.biases", "BF16", (8, 1)),
            ],
            {"bits": 4, "group_size": 64},
            512,
        ),
        *(
            ([("m.q_proj.qweight", "I32", (128 * bits // 32, 8))], {"quant_method": "gptq", "bits": bits}, 1024)
            for bits in (2, 3, 5, 6, 8)
        ),
        *(
            ([("m.q_proj.weight", "U32", (8, 128 * bits // 32))], {"bits": bits, "group_size": 64}, 1024)
            for bits in (2, 3, 5, 6, 8)
        ),
        (
            [("m.q_proj.weight_packed", "I32", (8, 12))],
            {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 3}}}},
            1024,
        ),
        (
            [("m.q_proj.weight", "U32", (8, 16)), ("m.gate.weight", "U32", (8, 32))],
            {"bits": 4, "group_size": 64, "m.gate": {"bits": 8, "group_size": 64}},
            2048,
        ),
        ([("m.q_proj.W_q", "U8", (8, 8)), ("m.q_proj.scale", "F16", (8, 1))], {"quant_method": "hqq", "nbits": 4}, 128),
        (
            [("m.q_proj.weight._data", "I8", (8, 8)), ("m.q_proj.weight._scale", "F16", (8, 1))],
            {"quant_method": "quanto"},
            64,
        ),
        ([("m.tid2eid", "I64", (9,)), ("m.mask", "BOOL", (9, 9)), ("m.q_proj.weight", "BF16", (8, 8))], {}, 64),
    ],
)
def test_packed_weights_are_unfolded(
    rows: list[tuple[str, str, tuple[int, ...]]], quantisation: dict[str, object], parameters: int
) -> None:
    for config in ({"quantization_config": quantisation}, {"text_config": {"quantization_config": quantisation}}):
        found = model({"model_type": "a_type_nobody_knows", **config}, rows)
        assert found.parameters is not None
        assert found.parameters.total == parameters


@pytest.mark.parametrize(
    ("quantisation", "dtype"),
    [
        ({}, None),
        ({"quant_method": "fp8"}, None),
        ({"kv_cache_scheme": {"num_bits": 8, "type": "float"}}, "float8_e4m3fn"),
        ({"kv_cache_scheme": {"num_bits": 8, "type": "int"}}, "int8"),
        ({"kv_cache_scheme": None}, None),
        ({"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}, "float8_e4m3fn"),
        ({"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": None}}, None),
    ],
)
def test_the_cache_has_the_compute_dtype_unless_the_checkpoint_brings_scales(
    quantisation: dict[str, object], dtype: str | None
) -> None:
    assert model(LLAMA | {"quantization_config": quantisation}, ROWS).architecture.kv_dtype == dtype


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "no config.json"),
        ({}, "has no model_type"),
        ({"model_type": "a_type_nobody_knows"}, "a_type_nobody_knows"),
        (LLAMA | {"hidden_size": "wide"}, "hidden_size is 'wide'"),
        (LLAMA | {"hidden_size": 10**40}, "expected a whole number from 0 to 1,000,000,000,000,000"),
        (LLAMA | {"hidden_size": -1}, "hidden_size is -1, expected a whole number from 0 to"),
        (LLAMA | {"hidden_size": [*range(32)]}, "20, 21, 2…, expected a whole number"),
        (LLAMA | {"tie_word_embeddings": "x" * 99}, "x…, expected true or false"),
        (LLAMA | {"num_attention_heads": 0}, "num_attention_heads is 0, and 'llama' divides by it"),
        (LLAMA | {"vocab_size": None}, "lacks 'vocab_size'"),
    ],
)
def test_what_is_unknown_says_why_and_keeps_exact_weights(config: dict[str, object] | None, words: str) -> None:
    found = model(config, ROWS)
    assert found.architecture.layers is None
    assert words in found.architecture.unknown
    assert len(found.architecture.unknown) < 200
    assert "modulo" not in found.architecture.unknown
    assert found.parameters is not None
    assert found.parameters.total == TOTAL
    assert found.certainty == "exact"


@pytest.mark.parametrize(("kept", "odd"), [(7, True), (64, True), (0, True), (8, False), (32, False), (1, False)])
def test_key_value_heads_that_do_not_divide_the_heads_are_told(kept: int, odd: bool) -> None:
    config = {"model_type": "qwen3", "num_attention_heads": 32, "num_key_value_heads": kept, "num_hidden_layers": 2}
    found = model(config, [])
    assert any(f"32 query heads and {kept} KV heads" in note for note in found.notes) is odd


def test_no_model_of_the_catalog_has_odd_heads() -> None:
    """Nor has a type with its own assumptions: classes that share heads otherwise would show here."""
    found = [model(config, []) for config in configs().values() if config]
    rows = files("hfmem.data").joinpath("config_defaults.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    types = [model({"model_type": json.loads(row)["type"]}, []) for row in rows]
    assert len(types) > 100
    for each in (*found, *types):
        assert not any("Attention cannot run" in note for note in each.notes), each


def test_a_gated_config_is_not_filled_with_defaults() -> None:
    found = model({"model_type": "llama"}, [], gated=True, totals={"BF16": 7})
    assert found.architecture.layers is None
    assert found.parameters is not None
    assert (found.parameters.total, found.parameters.stored) == (7, {"BF16": 7})


def test_nothing_known_at_all() -> None:
    found = model(None, [])
    assert (found.parameters, found.certainty) == (None, "unknown")


def test_a_quantisation_that_only_the_configuration_tells_is_named() -> None:
    quantised = model({**LLAMA, "quantization_config": {"quant_method": "fp8"}}, [])
    assert quantised.source.endswith("stored as its quantization_config says")
    unknown = model({**LLAMA, "quantization_config": {"quant_method": "some_new_thing"}}, [])
    assert any("quantised (some_new_thing)" in note for note in unknown.notes)
    assert not any("quantised" in note for note in model(LLAMA, []).notes)


def test_elements_of_which_only_the_dtype_is_known_are_no_matrices() -> None:
    """What a quantiser would replace of them cannot be told: they stay as they are."""
    found = model({"model_type": "llama"}, [], gated=True, totals={"BF16": 7_000_000_000, "F32": 1000})
    report = estimate(found, dtype="nf4", seq=64).estimate
    assert report.group("weights") == 2 * 7_000_001_000
