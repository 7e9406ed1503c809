"""Steps against the resident memory of real runs on the CPU (`fixtures/oracle/real.json`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from tests.oracle.real_cases import CASES, Real, above_weights, config_of

RECORDED: dict[str, int] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "real.json").read_text(encoding="utf-8")
)["bytes"]
CLOSE: Final = 0.03


@pytest.mark.parametrize("case", [case for case in CASES if str(case) in RECORDED], ids=str)
def test_step(case: Real) -> None:
    assert above_weights(config_of(case.model), case) == pytest.approx(RECORDED[str(case)], rel=CLOSE)
