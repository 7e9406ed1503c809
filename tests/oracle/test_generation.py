"""The caches of `generate`, measured anew."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.oracle import generation

pytestmark = pytest.mark.oracle

RECORD: dict[str, Any] = json.loads(generation.TARGET.read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", RECORD["types"], ids=lambda row: row["type"])
def test_caches_are_as_recorded(row: dict[str, Any]) -> None:
    quantisers = all(find_spec(name) for name in ("optimum", "hqq"))
    for one in row["runs"]:
        asked = {key: value for key, value in one.items() if key not in ("cache", "peak", "refused")}
        if asked.get("cache_implementation") == "quantized" and not quantisers:
            continue
        found = generation.run(row["config"], asked)
        assert found.get("cache") == one.get("cache"), asked
    for kind in generation.AWAY:
        assert generation.attempt(row["config"], kind) == row[kind]


def test_an_assisted_model_is_as_recorded() -> None:
    found, recorded = generation.pair(), RECORD["assisted"]
    assert (found["cache"], found["tokens"]) == (recorded["cache"], recorded["tokens"])
