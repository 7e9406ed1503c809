"""timm's real classes allocate what is recorded in fixtures/oracle/timm.jsonl, and are built as the catalog says."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.oracle import networks

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

pytest.importorskip("hfmem.probe.timm.installed", exc_type=(ImportError, RuntimeError))

RECORDED: Final = [json.loads(line) for line in networks.RECORDED.read_text(encoding="utf-8").splitlines()[1:]]
ROWS: Final = {(row["network"], row["precision"]): row for row in networks.rows()}


@pytest.mark.parametrize("one", RECORDED, ids=lambda one: f"{one['network']} {one['precision']} {one['batch']}")
def test_a_pass_allocates_what_is_recorded(one: dict[str, Any]) -> None:
    row = ROWS[one["network"], one["precision"]]
    real = one.get("real", False)
    assert networks.measure(row, one["batch"], one["height"], one["width"], real=real) == one


def test_the_catalog_is_what_the_classes_are() -> None:
    from hfmem.probe.timm import catalog

    lines = catalog.TARGET.read_text(encoding="utf-8").splitlines()[1:]
    for line in map(json.loads, lines):
        assert catalog.entry(line["model"].removeprefix("timm/")) == line
