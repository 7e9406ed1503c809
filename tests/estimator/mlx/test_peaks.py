"""Peaks of mlx-lm: real runs on MLX's CPU backend, and what people read on Macs."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any, Final

import pytest

import hfmem

_FOLDER: Final = Path(__file__).parents[3] / "fixtures" / "mlx"


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (_FOLDER / name).read_text(encoding="utf-8").splitlines()]


RUNS: Final = _lines("runs.jsonl")
MACS: Final = [row for row in _lines("macs.jsonl") if not row["skipped"]]


def _estimate(folder: Path, config: dict[str, Any], bits: int | None, group: int | None, **how: Any) -> Any:
    packed = {"quantization": {"bits": bits, "group_size": group}} if bits and bits < 16 else {}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, **packed}), encoding="utf-8")
    return hfmem.estimate(str(folder), runtime="mlx", **how).estimate


def _of_run(folder: Path, row: dict[str, Any]) -> Any:
    how = row["how"]
    prompt, step = how["prompt"], how.get("step", 2048)
    length = prompt + how.get("generated", 1)
    bits = how.get("bits")
    return _estimate(folder, row["config"], bits, 64, seq=length, prompt=prompt, prefill_step_size=step, gpu="cpu")


@pytest.mark.parametrize("row", RUNS, ids=[row["run"] for row in RUNS])
def test_real_runs_on_a_processor(row: dict[str, Any], tmp_path: Path) -> None:
    found = _of_run(tmp_path, row)
    assert found.group("weights") == pytest.approx(row["weights"], rel=0.001)
    assert found.group("kv_cache") == row["cache"]
    assert found.total == pytest.approx(row["peak"], rel=0.05)


def test_readings_of_macs(tmp_path: Path) -> None:
    configs = json.loads((_FOLDER / "configs.json").read_text(encoding="utf-8"))
    errors = []
    for row in MACS:
        found = _estimate(
            tmp_path,
            configs[row["config"]],
            row["bits"],
            row["group_size"],
            seq=row["prompt_tokens"] + row["generation_tokens"],
            prompt=row["prompt_tokens"],
            prefill_step_size=row["prefill_step_size"],
            gpu=row["mac"] if "GB" in row["mac"] else "M4 Max 128GB",
        )
        errors.append(abs(found.total / (row["peak_gb"] * 1e9) - 1))
    assert median(errors) < 0.05
    assert sum(error < 0.1 for error in errors) >= 0.8 * len(errors)
    assert len(errors) >= 12
