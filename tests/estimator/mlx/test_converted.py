"""`--dtype` of a checkpoint that is not MLX's: what `mlx_lm.convert -q` would make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfmem import InvalidScenarioError, estimate
from hfmem.mapper.mlx import MODES
from tests.estimator.mlx.test_engine import _SMALL


def folder(path: Path, **more: Any) -> str:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({**_SMALL, **more}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("word", MODES)
def test_it_is_what_the_converted_model_is(tmp_path: Path, word: str) -> None:
    asked = estimate(folder(tmp_path / "plain"), runtime="mlx", dtype=word, seq=256)
    made = estimate(folder(tmp_path / "made", quantization=dict(MODES[word])), runtime="mlx", seq=256)
    assert asked.estimate.terms == made.estimate.terms
    assert any("mlx_lm.convert --hf-path" in note for note in asked.notes)
    assert "mlx_model" in asked.estimate.serving.command


def test_four_bits_have_a_scale_and_a_zero_point_for_64_inputs(tmp_path: Path) -> None:
    of = folder(tmp_path / "plain")
    plain, packed = (estimate(of, runtime="mlx", dtype=dtype, seq=256) for dtype in ("bfloat16", "int4"))
    assert packed.estimate.group("weights") == pytest.approx(plain.estimate.group("weights") * 4.5 / 16, rel=0.01)


def test_formats_that_it_does_not_write(tmp_path: Path) -> None:
    with pytest.raises(InvalidScenarioError):
        estimate(folder(tmp_path / "plain"), runtime="mlx", dtype="nf4")


def test_the_download_is_that_of_the_model_it_is_made_of() -> None:
    plain, packed = (
        estimate("Qwen/Qwen3-8B", runtime="mlx", dtype=dtype, offline=True).download.nbytes for dtype in (None, "int4")
    )
    assert plain == packed
