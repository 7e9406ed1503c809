"""What measured coefficients are looked up by."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model, interpret
from hfmem.mapper.structure import alike, nearest


def model(**config: Any) -> Model:
    checkpoint = Checkpoint(ref=ModelRef(model_id="org/m"), commit=None, source="local", provenance="", config=config)
    return interpret(checkpoint)


def test_the_most_telling_name_is_first() -> None:
    found = model(model_type="gemma3", architectures=["Gemma3ForConditionalGeneration"]).structure
    whole, text = "gemma3", "gemma3_text"
    named = [f"{name}:Gemma3ForConditionalGeneration" for name in (whole, text)]
    assert found.own == (*named, whole, text)


@pytest.mark.parametrize(
    ("model_type", "relative"),
    [("deepseek_v3", "deepseek_v3"), ("olmoe", "qwen2_moe"), ("qwen3", "llama"), ("opt", "gpt_neox")],
)
def test_relatives_have_the_same_kinds_of_networks(model_type: str, relative: str) -> None:
    assert model(model_type=model_type).structure.relatives[0] == relative


def test_sizes_are_those_of_each_kind_of_layer_of_the_head_and_of_what_is_before() -> None:
    found = model(model_type="gemma3_text", num_hidden_layers=12, sliding_window=512).structure
    assert len(found.layers) == 2
    assert len(found.order) == 12
    first, second, head, before = found.sizes
    assert first["window"] == 512
    assert before == first
    assert second["hidden"] == head["hidden"]
    assert found.windows == (512,)
    assert len(found.signatures) == 2


def test_what_bounds_attention_counts_as_a_window() -> None:
    assert 64 in model(model_type="deepseek_v32", index_topk=64).structure.windows


def test_it_is_found_once_a_model() -> None:
    one = model(model_type="llama")
    assert one.structure is one.structure
    assert one.structure is not model(model_type="llama").structure


KNOWN = ("full_attention, dense", "sliding_attention, experts")


@pytest.mark.parametrize(
    ("name", "within", "same", "close"),
    [
        ("full_attention, dense", False, KNOWN[0], KNOWN[0]),
        ("sliding_attention, dense", True, KNOWN[0], KNOWN[0]),
        ("sliding_attention, dense", False, None, KNOWN[0]),
        ("shared sliding_attention, dense", True, None, KNOWN[0]),
        ("mamba, experts", True, None, KNOWN[1]),
        ("sliding_attention, none", False, None, KNOWN[1]),
        ("mamba, none", True, None, KNOWN[0]),
    ],
)
def test_signatures_that_run_alike(name: str, within: bool, same: str | None, close: str) -> None:
    assert alike(name, KNOWN, within=within) == same
    assert nearest(name, KNOWN, within=within) == close
