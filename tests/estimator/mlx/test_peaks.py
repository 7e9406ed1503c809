"""Peaks of mlx-lm: real runs on MLX's CPU backend, and what people read on Macs."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any, Final

import pytest

import hfmem
from hfmem.engines.mlx.classes import shape_of
from hfmem.engines.mlx.runs import Run, peak
from hfmem.engines.mlx.tasks import metal
from hfmem.engines.mlx.weights import packed_as
from hfmem.mapper.interpret import interpret
from hfmem.unknown import Unknown

_FOLDER: Final = Path(__file__).parents[3] / "fixtures" / "mlx"


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (_FOLDER / name).read_text(encoding="utf-8").splitlines()]


RUNS: Final = _lines("runs.jsonl")
MACS: Final = _lines("macs.jsonl")
COMPARED: Final = [row for row in MACS if not row["skipped"]]
CONFIGS: Final[dict[str, Any]] = json.loads((_FOLDER / "configs.json").read_text(encoding="utf-8"))


def _packed(config: dict[str, Any], bits: int | None, group: int | None) -> dict[str, Any]:
    return {**config, "quantization": {"bits": bits, "group_size": group}} if bits and bits < 16 else config


def _estimate(folder: Path, config: dict[str, Any], bits: int | None, group: int | None, **how: Any) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_packed(config, bits, group)), encoding="utf-8")
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
    assert found.total == pytest.approx(row["peak"], rel=0.03)


def _of_mac(folder: Path, row: dict[str, Any]) -> float:
    """What is estimated for a reading, in bytes."""
    large = {"Max", "Ultra"} & set(row["mac"].split()) or "GB" not in row["mac"]
    found = _estimate(
        folder,
        CONFIGS[row["config"]],
        row["bits"],
        row["group_size"],
        seq=row["prompt_tokens"] + row["generation_tokens"],
        prompt=row["prompt_tokens"],
        prefill_step_size=row["prefill_step_size"],
        batch=row["batch"],
        **({} if large else {"gpu": row["mac"]}),
    )
    return _before(folder, row) + float(found.group("weights")) if row["logits"] else float(found.total)


def _before(folder: Path, row: dict[str, Any]) -> int:
    """The peak without weights in mlx-lm before 0.27."""
    model = interpret(hfmem.inspect(str(folder)).checkpoint)
    shape = shape_of(model)
    assert not isinstance(shape, Unknown)
    prompt, step = row["prompt_tokens"], row["prefill_step_size"]
    length = prompt + row["generation_tokens"]
    run = Run(batch=1, prompt=prompt, seq=length, step=step, item=2, packed=packed_as(model), logits=True)
    return peak(shape, run, metal("max")).nbytes


def test_readings_of_macs(tmp_path: Path) -> None:
    errors = [abs(_of_mac(tmp_path, row) / (row["peak_gb"] * 1e9) - 1) for row in COMPARED]
    assert median(errors) < 0.02
    assert max(errors) < 0.1
    assert sum(error < 0.05 for error in errors) >= 0.9 * len(errors)
    assert len(errors) >= 28


def test_readings_that_are_not_compared_have_a_reason() -> None:
    assert len(MACS) >= 47
    assert all(len(row["skipped"]) > 20 for row in MACS if row not in COMPARED)


def test_a_prompt_of_192_thousand_tokens_holds_its_scores_and_inputs_of_convolutions(tmp_path: Path) -> None:
    """Qwen3.6-35B-A3B at 4 bits: 38.0 GB on a Mac (mlx-lm issue 1480)."""
    found = _estimate(tmp_path, CONFIGS["qwen3.6-35b-a3b"], 4, 64, seq=192_008, prompt=192_000)
    assert found.total == pytest.approx(38.0e9, rel=0.01)
    scores = 16 * 2048 * 190_000 * 2
    convolved = 30 * 2048 * 8192 * 2
    assert found.group("activations") > scores + convolved


def test_a_causal_mask_is_no_array(tmp_path: Path) -> None:
    """Mistral 7B at 4 bits: 9.111 GB with 33,898 tokens (mlx-lm pull request 40), 12.257 GB before, with a mask."""
    found = _estimate(tmp_path, CONFIGS["mistral-7b-v0.3"], 4, 64, seq=33_899, prompt=33_898)
    assert found.total == pytest.approx(9.111e9, rel=0.02)


def test_chips_differ_in_the_size_of_their_tasks() -> None:
    assert metal("M4 Max") == metal("M2 Ultra") != metal("M3 Pro")
