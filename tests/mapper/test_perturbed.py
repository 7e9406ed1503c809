"""Readers under change: each size of each type another one, against what the class then has
(`fixtures/oracle/perturbed.json`)."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.facts import Facts
from hfmem.mapper.families import reader

RECORDED = json.loads((Path(__file__).parents[2] / "fixtures" / "oracle" / "perturbed.json").read_text())
ROWS = {row["type"]: row for row in RECORDED["types"]}


def read(config: dict[str, Any]) -> Blueprint:
    found = reader(config["model_type"])
    assert found is not None
    return found(Facts(config))


def total(config: dict[str, Any]) -> int | None:
    table = read(config).parameters
    return None if table is None else table.total


def put(row: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(row["config"])
    part = config
    *above, key = path.split(".")
    for name in above:
        part = part.setdefault(name, {})
    part[key] = value
    return config


# Types whose towers are not described: their weights are unknown, not wrong.
UNDESCRIBED = {
    "deepseek_vl_hybrid",
    "dots3_note",
    "emu3",
    "granite_docling",
    "granite_speech",
    "granite_speech_plus",
    "inkling2",
    "janus",
    "step3p7",
    "vibevoice_asr",
}


def test_all_but_few_types_with_a_reader_have_their_parameters_counted() -> None:
    assert {name for name, row in ROWS.items() if total(row["config"]) is None} == UNDESCRIBED
    assert len(ROWS) >= 250


@pytest.mark.parametrize("name", sorted(set(ROWS) - UNDESCRIBED))
def test_parameters_are_those_of_the_class_whatever_size_is_changed(name: str) -> None:
    row = ROWS[name]
    found = [[path, value, total(put(row, path, value))] for path, value, _ in row["changed"]]
    expected = [[path, value, count] for path, value, count in row["changed"]]
    unknown = {path for path, _, count in found if count is None}
    assert unknown <= UNKNOWN.get(name, set())
    assert [item for item in found if item[0] not in unknown] == [item for item in expected if item[0] not in unknown]
    assert total(row["config"]) == row["parameters"]


# Changes that a reader answers with "unknown": parts that must fit each other, and a prompt's own network.
UNKNOWN = {"idefics2": {"text_config.hidden_size", "perceiver_config.hidden_size"}}
