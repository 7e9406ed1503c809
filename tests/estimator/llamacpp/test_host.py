"""What stays in the host's memory: it needs room there, and takes none on an accelerator."""

from __future__ import annotations

from typing import Any

import pytest

import hfmem
from hfmem.units import GIB
from tests.command import run

MODEL = "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"
KEPT = ({"n_gpu_layers": 10}, {"override_tensor": ("ffn=CPU",)}, {"n_gpu_layers": 0})


def fit(**asked: Any) -> Any:
    (found,) = hfmem.estimate(f"{MODEL}:Q4_K_M", offline=True, **asked).fits
    return found


@pytest.mark.parametrize("kept", KEPT, ids=str)
def test_the_host_has_to_have_room_for_it(kept: dict[str, Any]) -> None:
    assert fit(gpu=("24GB",), host_memory=64, **kept).fits is True
    found = fit(gpu=("24GB",), host_memory=2, **kept)
    assert found.fits is False
    assert found.verdict == "refused"


def test_a_processor_has_no_more_than_its_host() -> None:
    assert fit(gpu=("cpu",), host_memory=2).fits is False


def test_with_no_layer_on_it_an_accelerator_holds_no_weights() -> None:
    report = hfmem.estimate(f"{MODEL}:Q4_K_M", offline=True, gpu=("4GB",), n_gpu_layers=0)
    assert report.fits[0].fits is True
    assert report.estimate.group("weights") == report.estimate.group("kv_cache") == 0
    host = sum(term.nbytes for term in report.estimate.host)
    assert host == pytest.approx(5.19 * GIB, rel=0.01)


def test_the_reason_is_said() -> None:
    done = run(f"{MODEL}:Q4_K_M", "--gpu", "24GB", "-ngl", "10", "--host-memory", "2GB", "--offline", "--require-fit")
    assert done.returncode == 3
    assert "the host's memory of 2.00 GiB has no room for the 3.53 GiB that stay there" in done.stdout
