"""The bound on speed, held against published speeds of single sequences: none is above it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.command import run

ROWS: Final[list[dict[str, Any]]] = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "fixtures" / "measured" / "speeds.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]


def _row(row: dict[str, Any]) -> dict[str, Any]:
    seq = str(max(2, row["tokens"]))
    done = run(row["model"], "--offline", "--seq", seq, "--gpu", row["gpu"], "--format", "json", *row["args"])
    found: dict[str, Any] = json.loads(done.stdout)["results"][0]["fit"][0]
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['gpu']}-{row['model'].split('/')[1]}-{row['speed']}")
def test_no_published_speed_is_above_the_bound(row: dict[str, Any]) -> None:
    speed = _row(row)["speed"]
    assert speed is not None
    assert row["speed"] <= speed["tokens_per_second_at_most"]
    # and the bound says something: these programs reach at least a twentieth of it
    assert row["speed"] >= 0.05 * speed["tokens_per_second_at_most"]


def test_enough_speeds_are_published() -> None:
    assert len(ROWS) >= 30
    assert len({row["gpu"] for row in ROWS}) >= 15
    assert all(row["source"] for row in ROWS)
