"""Readers of layers with a state against the classes they describe: parameters, and what each layer keeps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest

pytest.importorskip("torch")

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hfmem.dtypes import find_dtype
from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.caches import COMPUTE, KV, KV_DTYPE, Cache, Combined, Part, Seen
from hfmem.mapper.facts import Facts
from hfmem.mapper.families import reader
from hfmem.mapper.values import Layer
from tests.oracle.reference import classes, configuration, parameters
from tests.oracle.states import BUILT_ONLY, CONFIGS, TARGET, TOKENS, VARIANTS, kept, runs, small

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

WHOLES = ["qwen3_5", "qwen3_5_moe", "qwen4_exp"]
RECORDED = json.loads(TARGET.read_text())["models"]

# Flags that change nothing in memory.
IGNORED = {"is_encoder_decoder", "use_cache"}


def blueprint(config: dict[str, Any]) -> Blueprint:
    read = reader(config["model_type"])
    assert read is not None
    return read(Facts(config))


def told(config: dict[str, Any], tokens: int = TOKENS) -> list[dict[str, int]]:
    """Bytes that each layer keeps of one sequence, by dtype, as the reader tells."""
    layers = blueprint(config).architecture.layers
    assert layers is not None
    return [_bytes(layer, tokens) for layer in layers]


def _bytes(layer: Layer, tokens: int) -> dict[str, int]:
    sums: dict[str, int] = {}
    for part in _parts(layer.cache, tokens):
        name = "bfloat16" if part.dtype in (KV_DTYPE, COMPUTE) else part.dtype
        dtype = find_dtype(name)
        assert dtype is not None
        sums[name] = sums.get(name, 0) + dtype.nbytes(part.elements)
    return dict(sorted(sums.items()))


def _parts(cache: Cache, tokens: int) -> Iterator[Part]:
    """The implementation keeps one token less than a window: the next one takes its place."""
    if isinstance(cache, Combined):
        for inner in cache.caches:
            yield from _parts(inner, tokens)
    else:
        window = cache.window if isinstance(cache, KV) else None
        yield from cache.parts(Seen(tokens=tokens if window is None else min(tokens, window - 1)))


def flipped(model_type: str) -> Iterator[dict[str, Any]]:
    """Each flag of the configuration class, the other way round."""
    for field in dataclasses.fields(CONFIG_MAPPING[model_type]):
        if isinstance(field.default, bool) and field.name not in IGNORED and not field.name.startswith("output_"):
            yield {field.name: not field.default}


def language_model(model_type: str) -> str:
    return next(name for name in classes(model_type) if name.endswith("ForCausalLM"))


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_class_of_the_type_has_as_many_parameters(model_type: str) -> None:
    for name in classes(model_type):
        config = small(model_type, architectures=[name], num_labels=3)
        found = blueprint(config).parameters
        assert found is not None
        assert found.total == parameters(config), name


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_flag_and_variant_has_as_many_parameters(model_type: str) -> None:
    name = language_model(model_type)
    for changes in [*flipped(model_type), *VARIANTS.get(model_type, []), *BUILT_ONLY.get(model_type, [])]:
        config = small(model_type, architectures=[name], **changes)
        found = blueprint(config).parameters
        assert found is not None
        assert found.total == parameters(config), changes


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_layer_keeps_as_much(model_type: str) -> None:
    name = language_model(model_type)
    for changes in [{}, *VARIANTS.get(model_type, [])]:
        config = small(model_type, architectures=[name], **changes)
        assert told(config) == kept(config), changes


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_state_does_not_depend_on_the_length(model_type: str) -> None:
    """Nor on a sequence being shorter than the convolution sees."""
    config = small(model_type, architectures=[language_model(model_type)])
    for tokens in (2, 33):
        assert told(config, tokens) == kept(config, tokens), tokens


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_file_that_says_everything_and_one_that_leaves_out_defaults_agree(model_type: str) -> None:
    config = small(model_type, architectures=[language_model(model_type)])
    full = configuration(config).to_dict()
    assert blueprint(full).groups == blueprint(config).groups
    assert blueprint(full).architecture.layers == blueprint(config).architecture.layers


@pytest.mark.parametrize("model_type", WHOLES)
def test_a_model_with_a_tower_has_as_many_parameters_and_keeps_as_much(model_type: str) -> None:
    sizes = {"depth": 2, "hidden_size": 48, "intermediate_size": 72, "num_heads": 4, "patch_size": 7}
    vision = {**sizes, "out_hidden_size": 64, "num_position_embeddings": 16}
    for name in classes(model_type):
        for changes in ({}, {"tie_word_embeddings": True}):
            config = {"model_type": model_type, "architectures": [name], "num_labels": 3, "vision_config": vision}
            config |= {"text_config": small(f"{model_type}_text"), **changes}
            found = blueprint(config).parameters
            assert found is not None
            assert found.total == parameters(config), (name, changes)
            if name.endswith("ForConditionalGeneration"):
                assert told(config) == kept(config)


@pytest.mark.parametrize("row", [row for row in RECORDED if "sizes/" not in row["model"]], ids=lambda row: row["model"])
def test_models_of_the_hub_are_as_recorded(row: dict[str, Any]) -> None:
    config = row["config"]
    assert parameters(config) == row["parameters"]
    assert runs(kept(config, fake=True)) == row["kept"]
    assert [[len(list(equal)), size] for size, equal in groupby(told(config))] == row["kept"]
