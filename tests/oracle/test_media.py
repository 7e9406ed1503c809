"""The real processors count as recorded in fixtures/oracle/media.json."""

from __future__ import annotations

import json
from typing import Final

import pytest

from tests.oracle import media

pytestmark = pytest.mark.oracle

ROWS: Final = {row["name"]: row for row in json.loads(media.RECORDED.read_text(encoding="utf-8"))["rows"]}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_processor_counts_as_recorded(name: str) -> None:
    pytest.importorskip("PIL")
    pytest.importorskip("torchvision")
    assert media.measure(name) == ROWS[name]
