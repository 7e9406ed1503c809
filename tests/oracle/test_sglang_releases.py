"""`mem_fraction_static` and the sizes that it follows from against each release's own function, as recorded in
`fixtures/oracle/sglang_releases.json` and, where marked, as published on PyPI."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hfmem import inspect
from hfmem.engines.sglang.fraction import Sizes, fraction_of, sizes_of
from hfmem.engines.sglang.releases import DEFAULT, RELEASES, number_of, read_of
from hfmem.estimator.scenario import Scenario
from hfmem.hardware.table import find
from hfmem.hardware.values import Machine
from hfmem.mapper.interpret import Model
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve
from hfmem.units import MIB
from tests.oracle.sglang_releases import TABLE, Case, cases, published, read_release

RECORDED: dict[str, dict[str, dict[str, float]]] = json.loads(TABLE.read_text(encoding="utf-8"))
READ_AGAIN = ("0.5.3", "0.5.10.post1", "0.5.14", "0.5.20", "0.5.23")
"""Releases whose source is read again from PyPI."""


def asked(case: Case, version: str) -> tuple[Model, Scenario]:
    """The model and the scenario of a case."""
    name = "deepseek-ai/DeepSeek-V3" if case.latents else "Qwen/Qwen3-32B"
    model = inspect(name, offline=True)
    model = replace(model, architecture=replace(model.architecture, tower=case.tower, prediction_layers=1))
    options = Options(
        runtime="sglang",
        sglang_version=version,
        tp=case.tp,
        dp=case.dp if case.dp > 1 else None,
        enable_dp_attention=case.dp > 1,
        chunked_prefill_size=case.chunk,
        max_running_requests=case.running,
        speculative_algorithm="EAGLE" if case.drafts else None,
        seq=case.context or 32768,
    )
    card = replace(find("H100").accelerator, memory=case.card * MIB)
    return model, resolve(options, model, Machine(accelerator=card))


def ours(case: Case, version: str) -> dict[str, Any]:
    model, scenario = asked(case, version)
    sizes: Sizes = sizes_of(model, scenario)
    return {
        "chunk": sizes.chunk,
        "graphs": sizes.graphs,
        "fraction": pytest.approx(fraction_of(model, scenario), abs=1e-9),
    }


def test_every_row_was_read() -> None:
    recorded = {number_of(version) for version in RECORDED}
    assert all(any(row.since == version for version in recorded) for row in RELEASES)
    assert number_of(DEFAULT) in recorded


@pytest.mark.parametrize("version", RECORDED)
def test_what_a_release_chooses(version: str) -> None:
    for case in cases():
        assert RECORDED[version][case.key] == ours(case, version), case.key


@pytest.mark.pypi
@pytest.mark.parametrize("version", READ_AGAIN)
def test_the_source_on_pypi(version: str) -> None:
    assert read_release(published(version)) == RECORDED[version]


@pytest.mark.pypi
@pytest.mark.parametrize("version", ["0.5.14", "0.5.16", "0.5.23"])
def test_towers_that_every_rank_holds_whole(version: str) -> None:
    """Whether the tower of Kimi's models has layers that are split."""
    text = published(version)("sglang/srt/models/kimi_vl_moonvit.py") or ""
    assert text
    whole = "KimiVLForConditionalGeneration" in read_of(version).whole_towers
    assert ("ColumnParallelLinear" in text) != whole
