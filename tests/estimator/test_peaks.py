"""Peaks of training steps against what `MemTracker` measured (`fixtures/oracle/peaks.json`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.oracle.peak_cases import ours, shortened

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "peaks.json").read_text(encoding="utf-8")
)
CLOSE: Final = 0.02

ROWS = [
    pytest.param(name, case, nbytes, id=f"{name} {case}")
    for name, cases in RECORDED["bytes"].items()
    for case, nbytes in cases.items()
]


@pytest.mark.parametrize(("name", "case", "nbytes"), ROWS)
def test_peak(name: str, case: str, nbytes: int) -> None:
    method, checkpointing, shape = case.split()
    batch, seq = map(int, shape.split("x"))
    told = ours(shortened(name), batch, seq, method, checkpointing=checkpointing == "checkpointing")
    assert told == pytest.approx(nbytes, rel=CLOSE)


def test_ten_architectures() -> None:
    assert len(RECORDED["bytes"]) >= 10
    assert all(len(cases) == 8 for cases in RECORDED["bytes"].values())
