"""Readers of models with several parts, and of encoder-decoders, against recorded measurements, published figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families import reader
from hfmem.mapper.values import Layer
from tests.mapper.windows import elements

RECORDED = json.loads((Path(__file__).parents[2] / "fixtures" / "oracle" / "multimodal.json").read_text())
TOKENS = int(RECORDED["tokens"])
SMALL = RECORDED["small"]
MODELS = {row["model"]: row for row in RECORDED["models"]}

GIB = 2**30


def read(config: dict[str, Any]) -> Blueprint:
    found = reader(config["model_type"])
    assert found is not None
    return found(Facts(config))


def layers(config: dict[str, Any]) -> tuple[Layer, ...]:
    found = read(config).architecture.layers
    assert found is not None
    return found


def total(config: dict[str, Any]) -> int | None:
    table = read(config).parameters
    return None if table is None else table.total


@pytest.mark.parametrize("row", SMALL, ids=lambda row: row["config"]["model_type"])
def test_small_models_are_those_of_the_class(row: dict[str, Any]) -> None:
    config = row["config"]
    assert total(config) in (None, row["parameters"])
    found = layers(config)
    kept = [*row["kept"], *[0] * (len(found) - len(row["kept"]))]  # layers that read another's cache come last
    assert elements(found, TOKENS, row["source"]) == kept


def test_most_towers_are_described() -> None:
    types = {row["config"]["model_type"] for row in SMALL}
    unknown = {row["config"]["model_type"] for row in SMALL if total(row["config"]) is None}
    assert len(types) >= 70
    assert len(unknown) <= 12


@pytest.mark.parametrize("model", MODELS)
def test_parameters_are_those_of_the_class(model: str) -> None:
    assert total(MODELS[model]["config"]) == MODELS[model]["parameters"]


# (model, parameters, where the figure is published)
PUBLISHED = [
    ("Qwen/Qwen2-Audio-7B-Instruct", 16_794_189_824 // 2, "total_size of its index, two bytes per parameter"),
    ("Qwen/Qwen2-VL-2B-Instruct", 2_208_985_600, "the Hub's safetensors metadata"),
    ("meta-llama/Llama-3.2-11B-Vision-Instruct", 10_670_220_835, "the Hub's safetensors metadata"),
    (
        "nvidia/Gemma-4-31B-IT-NVFP4",
        31_273_088_876 - 2 * 1152 - 60,
        "the Hub's safetensors.total of google/gemma-4-31B-it, less the buffers of its tower and of each layer",
    ),
]


@pytest.mark.parametrize(("model", "parameters", "_source"), PUBLISHED)
def test_parameters_are_as_published(model: str, parameters: int, _source: str) -> None:
    assert total(MODELS[model]["config"]) == parameters


MINISTRAL = {
    "architectures": ["Mistral3ForConditionalGeneration"],
    "model_type": "ministral3",
    "spatial_merge_size": 2,
    "text_config": {
        "head_dim": 128,
        "hidden_size": 3072,
        "intermediate_size": 9216,
        "model_type": "ministral3",
        "num_attention_heads": 32,
        "num_hidden_layers": 26,
        "num_key_value_heads": 8,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "vocab_size": 131072,
    },
    "vision_config": {
        "head_dim": 64,
        "hidden_size": 1024,
        "image_size": 1540,
        "intermediate_size": 4096,
        "model_type": "pixtral",
        "num_attention_heads": 16,
        "num_channels": 3,
        "num_hidden_layers": 24,
        "patch_size": 14,
    },
    "vision_feature_layer": -1,
}


def test_a_whole_under_its_text_models_type_is_told_by_its_class() -> None:
    """Ministral 3, whose config.json has the text model's type at its root; the figure is the Hub's for the 3B one."""
    assert total(MINISTRAL) == 3_849_090_048
    assert len(layers(MINISTRAL)) == 26
    with pytest.raises(MissingFactError):
        read({**MINISTRAL, "architectures": ["SomethingElse"]})


def test_a_text_part_that_is_missing_is_read_at_the_root() -> None:
    """Llava's own code writes its text model's sizes there; its tower is named, not described."""
    flat = {"model_type": "llava", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    flat |= {"vocab_size": 10, "intermediate_size": 80, "num_key_value_heads": 2}
    assert [layer.elements(1) for layer in layers(flat)] == [2 * 2 * 16] * 3
    assert total(flat) is None


def test_a_text_part_within_a_thinker_is_found() -> None:
    text = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    thinker = {"text_config": {**text, "head_dim": 16}}
    assert [layer.elements(1) for layer in layers({"model_type": "qwen3_asr", "thinker_config": thinker})] == [64] * 3


def test_an_unknown_text_model_is_named() -> None:
    found = read({"model_type": "llava", "text_config": {"model_type": "nobody_knows"}})
    assert found.architecture.layers is None
    assert "'nobody_knows'" in found.architecture.unknown


def test_without_any_part_the_defaults_of_the_classes_are_meant() -> None:
    assert total({"model_type": "llava"}) == 7_062_902_784
    assert total({"model_type": "paligemma"}) == 2_910_390_528


# (config, tokens, source tokens, gibibytes in two-byte numbers, how)
CACHES = [
    (
        {"model_type": "gemma3n", "text_config": {"model_type": "gemma3n_text"}},
        32_768,
        0,
        (4 * 32_768 + 16 * 512) * 2 * 2 * 256 * 2 / GIB,
        "Gemma 3n E4B: of 35 layers the last 15 share, of the others each fifth keeps everything: 0.27 GiB",
    ),
    (
        {"model_type": "whisper", "encoder_layers": 4, "decoder_layers": 4, "d_model": 384},
        448,
        0,
        4 * (448 + 1500) * 2 * 384 * 2 / GIB,
        "Whisper tiny: its encoder always makes 1500 tokens",
    ),
    (
        {"model_type": "t5"},
        100,
        700,
        6 * (100 + 700) * 2 * 512 * 2 / GIB,
        "T5 small: as many of the encoder's as there are",
    ),
    (MODELS["meta-llama/Llama-3.2-11B-Vision-Instruct"]["config"], 1000, 0, 32 * 1000 * 2 * 1024 * 2 / GIB, "no image"),
    (
        MODELS["meta-llama/Llama-3.2-11B-Vision-Instruct"]["config"],
        1000,
        6404,
        (32 * 1000 + 8 * 6404) * 2 * 1024 * 2 / GIB,
        "an image of four tiles of 1601 tokens",
    ),
]


@pytest.mark.parametrize(("config", "tokens", "source", "gibibytes", "_how"), CACHES)
def test_caches_in_gibibytes(config: dict[str, Any], tokens: int, source: int, gibibytes: float, _how: str) -> None:
    kept = sum(layer.elements(tokens, source) for layer in layers(config))
    assert 2 * kept / GIB == pytest.approx(gibibytes)


def test_gemma_3n_keeps_what_was_measured_of_it() -> None:
    kept = sum(layer.elements(32_768) for layer in layers({"model_type": "gemma3n_text"}))
    assert round(2 * kept / GIB, 2) == 0.27


# (class, kind of layers, what the decoder attends to besides)
FORMS = [
    ("T5ForConditionalGeneration", "full_attention", "encoder"),
    ("T5EncoderModel", "none", None),
    ("T5ForTokenClassification", "none", None),
]


@pytest.mark.parametrize(("name", "kind", "source"), FORMS)
def test_the_class_tells_the_stacks(name: str, kind: str, source: str | None) -> None:
    found = read({"model_type": "t5", "architectures": [name]}).architecture
    assert set(found.layer_kinds) == {kind}
    assert found.source == source


# (type, what the decoder attends to, longest source)
SOURCES = [("whisper", "fixed", 1500), ("bart", "encoder", 1024), ("t5", "encoder", None), ("mllama", "images", None)]


@pytest.mark.parametrize(("model_type", "source", "longest"), SOURCES)
def test_the_source(model_type: str, source: str, longest: int | None) -> None:
    found = read({"model_type": model_type}).architecture
    assert (found.source, found.max_source_positions) == (source, longest)
