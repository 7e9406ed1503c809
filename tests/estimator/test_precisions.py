"""Bytes per element in each precision, against a step of PyTorch's (`fixtures/oracle/precisions.json`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from hfmem.dtypes import find_dtype
from hfmem.estimator.recipe.precisions import find_precision

TARGET: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "precisions.json"
RECORDED: Final[dict[str, Any]] = json.loads(TARGET.read_text(encoding="utf-8"))["bytes"]


@pytest.mark.parametrize("name", RECORDED)
def test_a_step_keeps_what_the_row_says(name: str) -> None:
    row, kept = find_precision(name), RECORDED[name]
    assert row is not None
    assert (row.weights, row.compute, row.gradient) == (kept["weights"], kept["compute"], kept["gradient"])
    state = find_dtype(row.state)
    assert state is not None
    assert kept["states"] == 2 * state.nbytes(1)
