"""With PyTorch installed, a configuration alone is enough for every class that `transformers` can build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

import hfmem
from hfmem.probe import parameters

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("model_type", ["jetmoe", "vit_mae"])
def test_weights_of_a_type_without_a_reader(tmp_path: Path, model_type: str) -> None:
    config = {"model_type": model_type, "torch_dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = hfmem.inspect(str(tmp_path), offline=True)
    assert model.parameters is not None
    assert model.parameters.total == parameters.count(config)
    assert hfmem.estimate(model).estimate.group("weights") == 2 * model.parameters.total


def test_a_class_that_refuses_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dbrx", "d_model": "wide"}))
    model = hfmem.inspect(str(tmp_path), offline=True)
    assert model.parameters is None
    assert any("cannot build" in note for note in model.notes)
