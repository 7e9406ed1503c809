"""ONNX files that the installed package writes now."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfmem.fetcher.local import read
from hfmem.fetcher.values import ModelRef

pytestmark = pytest.mark.oracle
onnx_files = pytest.importorskip("tests.oracle.onnx_files", reason="needs onnx")


@pytest.mark.parametrize("name", ["inline.onnx", "types.onnx", "within.onnx", "sparse.onnx", "outside.onnx"])
def test_tensors_are_equal(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    onnx_files.saved(onnx_files.FILES[name](), path)
    found = read(ModelRef(model_id=str(path)))
    assert sorted([one.name, list(one.shape), one.nbytes] for one in found.tensors) == onnx_files.loaded(path)
