"""The bundled catalog: its form, its size, and its tables against the totals that others published."""

from __future__ import annotations

import json
from importlib.resources import files
from math import prod
from typing import Any

import pytest

from hfmem.dtypes import find_dtype
from hfmem.fetcher.patterns import compress, expand
from hfmem.probe.catalog import entries, totals

CATALOG = files("hfmem.data").joinpath("catalog.jsonl")
KEYS = ("model", "aliases", "commit", "names", "source", "config", "tensors", "processing", "published")


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return CATALOG.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def catalog() -> dict[str, entries.Entry]:
    return entries.read()


def _strict(line: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return dict(json.loads(line, parse_constant=refuse))


def test_first_line_says_what_made_the_catalog(lines: list[str]) -> None:
    provenance = _strict(lines[0])
    assert provenance["schema"] == 2
    assert provenance["tool"] == "python -m hfmem.probe.catalog"
    assert {"transformers", "torch"} <= provenance.keys()


def test_holds_at_least_150_models_within_two_megabytes(lines: list[str]) -> None:
    assert len(lines) - 1 >= 150
    assert len(CATALOG.read_bytes()) < 2_000_000


def test_lines_are_sorted_compact_and_begin_with_the_model(lines: list[str]) -> None:
    models = [_strict(line)["model"] for line in lines[1:]]
    assert models == sorted(set(models))
    for model, line in zip(models, lines[1:], strict=True):
        assert line.startswith(f'{{"model":"{model}"')
        assert json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=False) == line


def test_where_a_config_is_from_is_told_in_fields(catalog: dict[str, entries.Entry]) -> None:
    inferred = [entry for entry in catalog.values() if entry.source.inferred]
    assert len(inferred) == 89
    for entry in catalog.values():
        fields = (entry.source.repository, entry.source.path, entry.source.note)
        assert not any("inferred" in each for each in fields)
        assert entry.source.values in ("", *catalog)
        assert entry.source.path in entry.source.sentence(entry.names)


def test_keys_have_the_documented_order(lines: list[str]) -> None:
    for line in lines[1:]:
        keys = list(_strict(line))
        assert keys == [key for key in KEYS if key in keys]


def test_writing_what_was_read_gives_the_same_lines(lines: list[str], catalog: dict[str, entries.Entry]) -> None:
    assert [entry.line() for entry in catalog.values()] == lines[1:]


def test_an_alias_belongs_to_one_model(catalog: dict[str, entries.Entry]) -> None:
    names = [name for entry in catalog.values() for name in (entry.model, *entry.aliases)]
    assert len(names) == len(set(names))
    assert catalog["openai-community/gpt2"].aliases == ("gpt2",)


def test_every_entry_says_where_it_is_from(catalog: dict[str, entries.Entry]) -> None:
    for entry in catalog.values():
        assert entry.names in ("recorded", "derived", "class")
        assert "; tensors: " in entry.source.sentence(entry.names)
        assert entry.config["model_type"], entry.model
        assert entry.config["architectures"], entry.model


def test_tables_expand_to_known_dtypes_and_whole_shapes(catalog: dict[str, entries.Entry]) -> None:
    for entry in catalog.values():
        assert all(find_dtype(dtype) for _, dtype, _ in entry.tensors), entry.model
        assert all(size > 0 for _, _, shape in entry.tensors for size in shape), entry.model


def test_expanding_and_compressing_gives_the_rows_back(catalog: dict[str, entries.Entry]) -> None:
    for entry in catalog.values():
        rows = list(expand(entry.tensors))
        assert len({name for name, _, _ in rows}) == len(rows), entry.model
        if len(rows) < 20_000:  # the largest tables take a second each and have the same patterns
            assert set(expand(compress(rows))) == set(rows), entry.model


def test_published_totals_are_the_tables_with_named_differences(catalog: dict[str, entries.Entry]) -> None:
    assert list(totals.check(catalog)) == []


def test_every_difference_has_an_explanation(catalog: dict[str, entries.Entry]) -> None:
    for entry in catalog.values():
        for figure in [entry.published, *entry.published.get("others", [])] if entry.published else []:
            assert figure["differences"].keys() <= totals.DIFFERENCES.keys()
            assert figure["weights"] + sum(figure["differences"].values()) == figure["total"]
            assert figure["kind"]


# (model, elements stored, where the figure is from)
STORED = [
    ("meta-llama/Llama-2-7b-hf", 6_738_417_664, "Hub API, 2026-10-01"),
    ("openai-community/gpt2", 137_022_720, "Hub API"),
    ("google-bert/bert-base-uncased", 110_106_428, "huggingface.js, parse-safetensors-metadata.spec.ts"),
    ("FacebookAI/roberta-base", 124_697_947, "huggingface.js, parse-safetensors-metadata.spec.ts"),
    ("bigscience/bloom", 176_247_271_424, "huggingface.js, parse-safetensors-metadata.spec.ts"),
    ("deepseek-ai/DeepSeek-V3", 684_531_386_000, "Hub API, old counting: scales with the rest"),
    ("deepseek-ai/DeepSeek-V4-Flash", 158_069_433_298, "Hub API, old counting: packed as stored"),
    ("zai-org/GLM-5-FP8", 753_910_024_032, "Hub API, old counting"),
    ("Qwen/Qwen3.5-27B", 27_781_427_952, "Hub API, 2026-09-25"),
    ("google/gemma-4-E4B-it", 7_996_156_490, "Hub API, 2026-09-25; leaves scalars out"),
]


@pytest.mark.parametrize(("model", "stored", "source"), STORED)
def test_elements_as_stored(model: str, stored: int, source: str, catalog: dict[str, entries.Entry]) -> None:
    counted = sum(prod(shape) for _, _, shape in expand(catalog[model].tensors) if shape != ())
    assert counted == stored, source


# (model, bytes of its tensors, where the figure is from)
BYTES = [
    ("Qwen/Qwen3-8B", 16_381_470_720, "total_size of its index"),
    ("alpindale/WizardLM-2-8x22B", 281_241_268_224, "total_size of its index"),
    ("bigscience/bloom", 352_494_542_848, "total_size of its index"),
    ("meta-llama/Meta-Llama-3-8B-Instruct", 16_060_522_496, "total_size of its index"),
    ("mistralai/Devstral-Small-2507", 47_144_806_400, "total_size of its index"),
    ("Qwen/Qwen2-Audio-7B-Instruct", 16_794_189_824, "total_size of its index"),
]


@pytest.mark.parametrize(("model", "stored", "source"), BYTES)
def test_bytes_as_stored(model: str, stored: int, source: str, catalog: dict[str, entries.Entry]) -> None:
    sizes = (
        dtype.nbytes(prod(shape))
        for _, name, shape in expand(catalog[model].tensors)
        if (dtype := find_dtype(name)) is not None
    )
    assert sum(sizes) == stored, source


def test_llama_2_7b_has_its_rotary_buffers(catalog: dict[str, entries.Entry]) -> None:
    rows = [
        row for row in expand(catalog["meta-llama/Llama-2-7b-hf"].tensors) if row[0].endswith("rotary_emb.inv_freq")
    ]
    assert len(rows) == 32
    assert {(dtype, shape) for _, dtype, shape in rows} == {("F16", (64,))}


def test_dtypes_as_published(catalog: dict[str, entries.Entry]) -> None:
    """DeepSeek-V4-Flash: FP4 experts in int8 with exponents, FP8 layers, float32 mixing, an integer table."""
    stored: dict[str, int] = {}
    for _, dtype, shape in expand(catalog["deepseek-ai/DeepSeek-V4-Flash"].tensors):
        stored[dtype] = stored.get(dtype, 0) + prod(shape)
    assert stored == {
        "BF16": 1_415_259_264,
        "I64": 2_327_040,
        "F32": 36_168_018,
        "F8_E8M0": 8_858_737_664,
        "F8_E4M3": 6_023_020_544,
        "I8": 141_733_920_768,
    }


def test_configs_keep_no_labels_and_no_token_ids(catalog: dict[str, entries.Entry]) -> None:
    def keys(config: dict[str, Any]) -> set[str]:
        inner = (keys(value) for value in config.values() if isinstance(value, dict))
        return set(config).union(*inner)

    for entry in catalog.values():
        assert not [key for key in keys(entry.config) if key in ("id2label", "label2id") or key.endswith("_token_id")]
