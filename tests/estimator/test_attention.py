"""Which attention runs, and what a prompt in pieces takes."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem import estimate
from hfmem.errors import InvalidScenarioError
from hfmem.report.values import Report

OSS = "openai/gpt-oss-20b"


def told(**asked: Any) -> Report:
    return estimate(OSS, offline=True, **asked)


def test_a_class_without_sdpa_runs_eager_and_is_called_so() -> None:
    assert told().scenario.attention == "eager"


def test_flash_keeps_no_tokens_by_tokens() -> None:
    eager, flash = told(seq=32768), told(seq=32768, attention="flash", gpu=("H100",))
    assert flash.estimate.total * 5 < eager.estimate.total


@pytest.mark.parametrize("gpu", ["A100", "RTX 4090", "cpu"])
def test_flash_is_refused_where_no_kernel_runs(gpu: str) -> None:
    report = told(attention="flash", gpu=(gpu, "H100"))
    assert report.fits is not None
    refused, taken = report.fits
    assert refused.fits is False
    assert f"does not run on {refused.gpu.name}: FlashAttention 3 needs" in refused.refused
    assert taken.fits is True, "what other accelerators do is not lost"
    assert any("does not run on" in note for note in report.notes)


@pytest.mark.parametrize(
    ("gpu", "kernel"),
    [("T4", None), ("A100", "FlashAttention 2"), ("H100", "FlashAttention 2"), ("MI300X", "AITER's FlashAttention")],
)
def test_flash_by_compute_capability(gpu: str, kernel: str | None) -> None:
    """github.com/Dao-AILab/flash-attention, README: "Ampere, Ada, or Hopper GPUs", which begin with 8.0; a T4 has 7.5
    (developer.nvidia.com/cuda-gpus)."""
    report = estimate("Qwen/Qwen3-0.6B", offline=True, attention="flash", gpu=(gpu,))
    told = any(f"--attention flash: {kernel} (" in note for note in report.notes)
    assert (bool(report.estimate.refused), told) == (kernel is None, kernel is not None)


def test_flash_is_refused_where_the_class_has_none() -> None:
    with pytest.raises(InvalidScenarioError, match="does not support flash attention; it runs eager"):
        estimate("bigscience/bloom", attention="flash", offline=True)


def test_a_long_prompt_is_told_in_pieces() -> None:
    whole, pieces = told(seq=65536), told(seq=65536, prefill_chunk=4096)
    assert whole.estimate.in_pieces is not None
    assert whole.estimate.in_pieces.total == pieces.estimate.total < whole.estimate.total
    assert pieces.scenario.prefill_chunk == 4096


@pytest.mark.parametrize(("seq", "told_so"), [(16_384, False), (32_768, False), (32_769, True)])
def test_a_prompt_of_a_usual_length_is_not_told_in_pieces(seq: int, told_so: bool) -> None:
    assert (told(seq=seq).estimate.in_pieces is not None) is told_so
