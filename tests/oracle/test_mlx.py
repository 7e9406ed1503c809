"""mlx-lm itself, run again beside what was recorded (needs the packages `mlx[cpu]` and `mlx-lm`)."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.oracle.mlx_runs import RUNS, WHERE, measured

pytestmark = pytest.mark.oracle

TRIES: Final = 4

RECORDED: Final[dict[str, Any]] = {
    row["run"]: row for row in map(json.loads, WHERE.read_text(encoding="utf-8").splitlines())
}


def test_all_runs_are_recorded() -> None:
    assert {name: (row["config"], row["how"]) for name, row in RECORDED.items()} == RUNS


@pytest.mark.parametrize("name", ["llama, an answer", "llama, 4 bits", "qwen3_moe", "gemma3, a rotating cache"])
def test_a_run_takes_what_was_recorded(name: str) -> None:
    pytest.importorskip("mlx_lm")
    row, close = RECORDED[name], pytest.approx(RECORDED[name]["peak"], rel=0.03)
    for _ in range(TRIES):  # threads finish sooner or later, above all on a busy machine
        found = measured(*RUNS[name])
        if found["peak"] == close:
            break
    assert (found["weights"], found["cache"]) == (row["weights"], row["cache"])
    assert found["peak"] == close
