"""Rows of rotary tables, each rule with a configuration that has it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import interpret
from hfmem.mapper.rotary import rotary_rows

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    ("config", "positions", "rows"),
    [
        ({}, 4096, 4096),
        ({"rope_scaling": None}, 4096, 4096),
        ({"rope_scaling": LLAMA3}, 131_072, 131_072),
        ({"rope_scaling": {"type": "linear", "factor": 8.0}}, 131_072, 8 * 131_072),
        ({"rope_scaling": {"type": "linear", "factor": 8.0}, "rope_local_base_freq": 1e4}, 131_072, 9 * 131_072),
        ({"text_config": {"rope_scaling": {"rope_type": "linear", "factor": 2}}}, 1000, 2000),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 4096, 8192),
        ({"rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}}, 9, 163_840),
        ({"rope_scaling": {"type": "longrope", "original_max_position_embeddings": 4096}}, 131_072, 135_168),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}, 32_768, 32_768),
        ({"partial_rotary_factor": 0.5}, 2048, 1024),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}}, 2048, 512),
        (
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0},
                    "sliding_attention": {"rope_type": "default"},
                }
            },
            131_072,
            9 * 131_072,
        ),
        (
            {
                "head_dim": 256,
                "global_head_dim": 512,
                "rope_parameters": {
                    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25},
                    "sliding_attention": {"rope_type": "default"},
                },
            },
            262_144,
            262_144 + 262_144 // 2,  # rows of the widest table; those of windows are half as wide
        ),
        ({}, None, None),
    ],
    ids=str,
)
def test_rows(config: dict[str, Any], positions: int | None, rows: int | None) -> None:
    assert rotary_rows(config, positions) == rows


def test_kinds_of_layers_that_the_class_gives_positions_of_their_own() -> None:
    """Gemma3TextConfig: `rope_local_base_freq` of 10,000 where the file has none, as that of google/gemma-3-4b-it."""
    config = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    kinds = ("full_attention", "sliding_attention")
    assert rotary_rows(config, 131_072, kinds=kinds) == 9 * 131_072
    assert rotary_rows(config | {"rope_local_base_freq": 1e4}, 131_072, kinds=kinds) == 9 * 131_072
    nested = {"rope_parameters": {kind: {"rope_type": "default"} for kind in kinds}}
    assert rotary_rows(nested, 131_072, kinds=kinds) == 2 * 131_072
    read = interpret(
        Checkpoint(
            ref=ModelRef(model_id="a"),
            commit=None,
            source="local",
            provenance="",
            config=config | {"model_type": "gemma3_text"},
        )
    )
    assert read.architecture.rotary_rows == 9 * 131_072


def test_vllm_has_longer_tables_for_positions_of_images() -> None:
    """vLLM's MRotaryEmbedding: `max_position_embeddings * 4`, which SGLang's does not have."""
    config = {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}
    assert rotary_rows(config, 32_768, longer=True) == 131_072
    assert rotary_rows({"rope_scaling": LLAMA3}, 131_072, longer=True) == 131_072


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["rope_scaling", "rope_parameters", "text_config", "rotary_pct"]), values))
def test_any_configuration_has_an_answer(config: dict[str, Any]) -> None:
    assert rotary_rows(config, 4096) is not None
