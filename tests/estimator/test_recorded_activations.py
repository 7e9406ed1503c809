"""Measured coefficients against whole models at their real sizes, as `python -m tests.oracle.activations` recorded
them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hfmem import inspect
from tests.oracle.activations import TARGET, kind, model_of, predicted_prefill, predicted_saved, scenario_of

ROWS: list[dict[str, Any]] = json.loads(TARGET.read_text())["rows"]
# Known misses of the two figures, and their cause. Strict: what is mended must leave the list.
_FLAG = "measured with another structure than the file asks for; the estimate says `typical`"
SAVED_OFF = {
    "deepseek-ai/DeepSeek-V2-Lite": "queries without a latent of their own: the type was measured with one",
    "facebook/opt-6.7b": "the type was measured with projections around the layers, which this model lacks",
    "tiiuae/falcon-40b": _FLAG,
    "tiiuae/falcon-mamba-7b": "a scan over single tokens: not explained yet",
    "togethercomputer/RedPajama-INCITE-7B-Base": _FLAG,
}
PREFILL_OFF = {
    "allenai/OLMo-2-1124-7B": "a layer's highest moment comes before its own cache, which is counted as there",
    "bigscience/bloom": "its prefill was not solved: a relative stands in",
    "google/gemma-4-E2B-it": "not explained yet",
    "mosaicml/mpt-7b 1x2048": "not explained yet",
    "mosaicml/mpt-7b 4x1024": "not explained yet",
    "tiiuae/falcon-40b": _FLAG,
    "tiiuae/falcon-mamba-7b": "a scan over single tokens: not explained yet",
}
SAVED = {"dense": 0.01, "moe": 0.03, "hybrid": 0.03}
PREFILL = 0.05


def names(row: dict[str, Any]) -> str:
    return f"{row['model']} {row['batch']}x{row['seq']}"


def cases(off: dict[str, str]) -> list[Any]:
    """Every row, the known misses marked."""
    found = []
    for row in ROWS:
        why = off.get(row["model"]) or off.get(names(row))
        marks = [pytest.mark.xfail(reason=why, strict=True)] if why else []
        found.append(pytest.param(row, id=names(row), marks=marks))
    return found


def test_twenty_models_of_twelve_types_are_right() -> None:
    known = [name.partition(" ")[0] for name in (*SAVED_OFF, *PREFILL_OFF)]
    right = {row["model"] for row in ROWS} - set(known)
    assert len(right) >= 20
    assert len({inspect(model, offline=True).architecture.model_type for model in right}) >= 12


def test_the_recording_covers_enough() -> None:
    models = {row["model"] for row in ROWS}
    assert len(models) >= 20
    assert len({inspect(model, offline=True).architecture.model_type for model in models}) >= 12
    assert {kind(inspect(model, offline=True)) for model in models} == {"dense", "moe", "hybrid"}


@pytest.mark.parametrize("row", cases(SAVED_OFF))
def test_what_a_forward_pass_keeps(row: dict[str, Any]) -> None:
    model = model_of(row)
    told = predicted_saved(model, scenario_of(model, row["batch"], row["seq"]))
    assert told == pytest.approx(row["saved"], rel=SAVED[kind(model)])


@pytest.mark.parametrize("row", cases(PREFILL_OFF))
def test_the_peak_of_a_prefill(row: dict[str, Any]) -> None:
    model = model_of(row)
    told = predicted_prefill(model, scenario_of(model, row["batch"], row["seq"]))
    assert told == pytest.approx(row["prefill"], rel=PREFILL)
