"""Layouts and recipes of quantisations, measured again. What needs a package that is not installed is skipped;
`fixtures/oracle/quantisers.json` has what all of them made."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from tests.oracle import quantisers

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

RECORDED: dict[str, Any] = json.loads(quantisers.TARGET.read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", RECORDED["layouts"], ids=lambda row: f"{row['by']} {row['shape']}")
def test_a_library_still_packs_so(row: dict[str, Any]) -> None:
    found = quantisers.layouts().get(row["by"])
    if found is None:
        pytest.skip(f"{row['by']} is not installed")
    layout, pack = found
    torch.manual_seed(0)
    made = quantisers.parts(pack(torch.randn(row["shape"], dtype=torch.bfloat16)))
    assert (layout, made) == (row["layout"], row["parts"])


@pytest.mark.parametrize(
    "row", RECORDED["recipes"], ids=lambda row: f"{row['recipe']} {row['dtype']} {row['model'].split('/')[1]}"
)
def test_a_library_still_takes_these_matrices(row: dict[str, Any]) -> None:
    walk = quantisers.walks().get((row["recipe"], row["dtype"]))
    if walk is None:
        pytest.skip(f"{row['recipe']} is not installed")
    assert walk(row["model"]) == row["packed"]


def test_all_that_is_measured_here_is_recorded() -> None:
    assert {row["by"] for row in RECORDED["layouts"]} >= set(quantisers.layouts())
    assert {(row["recipe"], row["dtype"]) for row in RECORDED["recipes"]} >= set(quantisers.walks())
