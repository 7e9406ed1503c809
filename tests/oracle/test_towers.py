"""The real towers need what is recorded in fixtures/oracle/towers.json."""

from __future__ import annotations

import json
from typing import Final

import pytest

from tests.oracle import towers

pytestmark = pytest.mark.oracle

ROWS: Final = json.loads(towers.RECORDED.read_text(encoding="utf-8"))["rows"]


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_tower_needs_what_is_recorded(name: str) -> None:
    model_type, _, attention = name.partition(" ")
    assert towers.measure(model_type, attention) == ROWS[name]
