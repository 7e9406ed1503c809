"""Ollama: llama.cpp with its defaults, and a Modelfile instead of a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.errors import InvalidScenarioError
from hfmem.report.card import to_card
from tests.test_gguf import made

FILE = "Llama-3.1-8B-Instruct.Q4_K_M.gguf"


def command(path: Path, **options: Any) -> str:
    report = hfmem.estimate(str(path), runtime="ollama", **options)
    assert report.estimate.serving is not None
    assert report.estimate.serving.command is not None
    return report.estimate.serving.command


def test_defaults_are_its_own(tmp_path: Path) -> None:
    path = made(tmp_path, FILE)
    ours, theirs = (hfmem.estimate(str(path), runtime=name, gpu=("RTX 3060",)) for name in ("ollama", "llamacpp"))
    assert ours.scenario.seq == 4096
    assert ours.estimate.terms == theirs.estimate.terms  # both compute 512 tokens at once
    large = hfmem.estimate(str(path), runtime="ollama", batch_size=2048, gpu=("RTX 3060",))
    assert (large.estimate.group("activations") or 0) > (ours.estimate.group("activations") or 0)


def test_a_modelfile_instead_of_a_line(tmp_path: Path) -> None:
    path = made(tmp_path, FILE)
    assert command(path, gpu=("RTX 4090",), seq=8192).splitlines() == [
        f"FROM {path}",
        "PARAMETER num_ctx 8192",
        "PARAMETER num_gpu 33",
        "PARAMETER num_batch 512",
    ]
    lines = command(path, gpu=("RTX 4090",), parallel=4, cache_type_k="q8_0", n_gpu_layers=20, batch_size=1024)
    assert lines.splitlines() == [
        "# OLLAMA_NUM_PARALLEL=4 OLLAMA_KV_CACHE_TYPE=q8_0 ollama serve",
        f"FROM {path}",
        "PARAMETER num_ctx 4096",
        "PARAMETER num_gpu 20",
        "PARAMETER num_batch 1024",
    ]
    assert command(path, flash_attn="off").startswith("# OLLAMA_FLASH_ATTENTION=0 ollama serve\n")


def test_the_lines_are_shown_as_they_are(tmp_path: Path) -> None:
    path = made(tmp_path, FILE)
    report = hfmem.estimate(str(path), runtime="ollama", gpu=("RTX 4090",))
    assert "PARAMETER num_ctx 4096\nPARAMETER num_gpu 33\nPARAMETER num_batch 512" in to_card(report, "GiB", 100)


@pytest.mark.parametrize(("gpu", "tokens"), [("RTX 4090", "32,768"), ("H100", "262,144")])
def test_the_context_it_would_take_itself_is_said(tmp_path: Path, gpu: str, tokens: str) -> None:
    path = made(tmp_path, FILE)
    asked, silent = (hfmem.estimate(str(path), runtime="ollama", gpu=(gpu,), seq=seq) for seq in (8192, None))
    assert any(f"a context of {tokens} tokens" in sentence for sentence in silent.scenario.chosen)
    assert not any("num_ctx" in sentence for sentence in asked.scenario.chosen)


def test_older_builds_gave_out_the_states_of_the_last_layer(tmp_path: Path) -> None:
    path = made(tmp_path, FILE)
    sizes = []
    for version in ("0.5.0", "2025-08"):
        report = hfmem.estimate(str(path), runtime="ollama", llamacpp_version=version, n_gpu_layers=0)
        sizes += [term.nbytes for term in report.estimate.terms if term.name == "output buffer"]
    assert sizes == [128256 * 4, (128256 + 4096) * 4]


def test_what_it_cannot_be_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidScenarioError, match=r"--n-cpu-moe is an option of llama\.cpp"):
        hfmem.estimate(str(made(tmp_path, FILE)), runtime="ollama", n_cpu_moe=3)


def test_only_whole_layers_stay_on_the_host(tmp_path: Path) -> None:
    path = made(tmp_path, "Qwen3-30B-A3B.Q4_K_M.gguf")
    (fit,) = hfmem.estimate(str(path), runtime="ollama", gpu=("RTX 4080",), seq=8192).fits
    assert fit.offload is not None
    assert (fit.offload.experts_on_host, fit.offload.option) == (0, f"num_gpu {fit.offload.layers}")
    assert f"PARAMETER num_gpu {fit.offload.layers}\n" in (fit.offload.command or "")
