"""The real towers need what is recorded in fixtures/oracle/towers.json."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.oracle import towers

pytestmark = pytest.mark.oracle

ROWS: Final = json.loads(towers.RECORDED.read_text(encoding="utf-8"))["rows"]


@pytest.mark.parametrize("row", towers.rows(), ids=lambda row: f"{row['type']} {row['attention']}")
def test_the_tower_needs_what_is_recorded(row: dict[str, Any]) -> None:
    assert towers.measure(row) == ROWS[f"{row['type']} {row['attention']}"]
