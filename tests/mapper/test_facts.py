"""Facts of config.json: the file, else the class, else absent."""

from __future__ import annotations

import pytest

from hfmem.errors import InvalidConfigError
from hfmem.mapper.facts import Facts, MissingFactError


def facts(model_type: str = "mistral", **config: object) -> Facts:
    return Facts({"model_type": model_type, **config})


@pytest.mark.parametrize("value", [32, "32", 32.0, " 32 "])
def test_whole_numbers_in_their_spellings(value: object) -> None:
    assert facts(hidden_size=value).integer("hidden_size") == 32


@pytest.mark.parametrize("value", [True, "x", -1, 1.5, [32], {}, float("nan"), float("inf")])
def test_what_is_no_whole_number_is_refused_with_its_path(value: object) -> None:
    part = Facts({"model_type": "gemma3", "text_config": {"hidden_size": value}}).part("text_config")
    assert part is not None
    with pytest.raises(InvalidConfigError, match=r"text_config\.hidden_size"):
        part.integer("hidden_size")


def test_a_key_left_out_has_the_default_of_the_class() -> None:
    assert facts().integer("num_key_value_heads") == 8
    assert facts().optional_integer("sliding_window") == 4096
    assert facts().flag("tie_word_embeddings") is False


def test_null_is_absent_and_not_the_default_of_the_class() -> None:
    assert facts(sliding_window=None).optional_integer("sliding_window") is None
    assert facts(num_key_value_heads=None).integer("num_key_value_heads", default=32) == 32


def test_a_fact_nobody_has_is_named() -> None:
    with pytest.raises(MissingFactError) as caught:
        facts("a_type_nobody_knows").integer("hidden_size", "n_embd")
    assert caught.value.key == "hidden_size"


def test_spellings_of_one_key_and_the_aliases_of_the_class() -> None:
    assert facts("gpt2", n_embd=7).integer("hidden_size") == 7
    assert facts("gpt2", hidden_size=7).integer("hidden_size") == 7
    assert facts("gpt2").integer("num_hidden_layers") == 12


def test_a_part_knows_its_type_from_the_class() -> None:
    part = Facts({"model_type": "gemma3", "text_config": {}}).part("text_config")
    assert part is not None
    assert (part.model_type, part.integer("num_attention_heads"), part.integer("head_dim")) == ("gemma3_text", 8, 256)


def test_the_table_is_of_a_version_that_the_dependency_allows() -> None:
    from hfmem.mapper.defaults import config_class

    found = config_class("llama")
    assert found is not None
    major, minor = found.source.split()[1].split(".")[:2]
    assert found.source.endswith("configuration class")
    assert (major, int(minor) >= 23) == ("5", True)
