"""Weights, caches and compute buffers against what llama.cpp told of 63 files, on the host and on stand-ins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Final

import pytest

from hfmem.engines.llamacpp.allocator import Device
from hfmem.engines.llamacpp.caches import sides
from hfmem.engines.llamacpp.compute import Compute, computed
from hfmem.engines.llamacpp.graphs import structures
from tests.estimator.llamacpp.buffers import ROWS, Pair, Row, blocks_of, cache_pairs, compute_pairs, weight_pairs

SAMPLE: Final = ROWS[::7]
"""Seven goes into no file's number of rows, so that each setting comes, of another file each time."""

EVERY: Final = pytest.param(ROWS, marks=pytest.mark.slow, id="all")
SOME: Final = pytest.param(SAMPLE, id="sample")


def recorded(rows: Sequence[Row], *, offloaded: bool = True) -> list[Row]:
    """Rows of architectures that have a graph, which `tests/test_evidence.py` asks of all."""
    return [
        row
        for row in rows
        if structures(blocks_of(row.file)[1].architecture) and row.settings().offload_kqv is offloaded
    ]


def within(pairs: Sequence[Pair], share: float) -> float:
    """How many of a hundred are not further off than that."""
    return 100 * sum(pair.error <= share for pair in pairs) / len(pairs)


def shown(pairs: Sequence[Pair]) -> str:
    worst = sorted(pairs, key=lambda pair: -pair.error)[:3]
    return f"{within(pairs, 0):.1f} % equal, {within(pairs, 0.05):.1f} % within 5 %, the worst {worst}"


def test_the_sample_has_every_file_and_every_setting() -> None:
    assert {row.file for row in SAMPLE} == {row.file for row in ROWS}
    assert {key for row in SAMPLE for key in row.asked} == {key for row in ROWS for key in row.asked}


@pytest.mark.parametrize("rows", [SOME, EVERY])
def test_weights_are_equal_by_device(rows: Sequence[Row]) -> None:
    assert [pair for pair in weight_pairs(rows) if pair.error] == []


@pytest.mark.parametrize("rows", [SOME, EVERY])
def test_caches_and_states_are_equal_by_device(rows: Sequence[Row]) -> None:
    assert [pair for pair in cache_pairs(rows) if pair.error] == []


@pytest.mark.parametrize("rows", [SOME, EVERY])
def test_compute_buffers_are_mostly_equal(rows: Sequence[Row]) -> None:
    pairs = compute_pairs(recorded(rows))
    print(shown(pairs))
    assert within(pairs, 0) >= 90, shown(pairs)
    assert median(pair.error for pair in pairs) <= 0.01, shown(pairs)
    assert within(pairs, 0.05) >= 95, shown(pairs)


def test_compute_buffers_of_what_llama_server_runs_are_mostly_equal() -> None:
    """It asks for a row of logits of each sequence; others for one of every token."""
    rows = [row for row in SAMPLE if row.asked.get("n_outputs_max") == row.settings().n_seq_max]
    pairs = compute_pairs(recorded(rows))
    assert within(pairs, 0) >= 90, shown(pairs)
    assert within(pairs, 0.05) >= 95, shown(pairs)


def test_compute_buffers_with_the_cache_on_the_host() -> None:
    """Each view of what lies elsewhere is copied for itself: keys and values of one product, the latent as values, a
    new state; all that a split reads at its beginning, in the order of the sources."""
    pairs = compute_pairs(recorded(ROWS, offloaded=False))
    assert len(pairs) > 300
    assert within(pairs, 1e-4) >= 95, shown(pairs)
    assert max(pair.error for pair in pairs) <= 0.01, shown(pairs)


@pytest.mark.parametrize(
    ("file", "flash", "told"),
    [
        ("gpt2.F16.gguf", "off", Compute(devices=(106_072_064,), host=127_918_080, flash=False)),
        ("gpt2.F16.gguf", "auto", Compute(devices=(106_072_064,), host=15_206_400, flash=True)),
        ("Qwen2.5-0.5B.F16.gguf", "off", Compute(devices=(314_834_944,), host=130_557_952, flash=False)),
        ("Qwen2.5-0.5B.F16.gguf", "auto", Compute(devices=(312_999_936,), host=7_878_656, flash=True)),
    ],
)
def test_models_that_were_really_loaded_with_the_cache_on_the_host(file: str, flash: str, told: Compute) -> None:
    """Eager attention runs there too, which llama.cpp forgets where it simulates. Real loads of 0.5.0 on an RPC server
    as the device, -c 4096."""
    asked = {"n_ctx": 4096, "ngl": 99, "fa": flash, "offload_kqv": False}
    placement = Row(file=file, asked=asked, measured={"device0": (0, 0, 0), "CPU": (0, 0, 0)}).placement()
    placement = replace(placement, settings=replace(placement.settings, pins=True))
    layers = blocks_of(file)[0].layers or ()
    assert computed(placement, [Device()], [sides(layer, placement.settings) for layer in layers]) == told


def test_hybrids_are_equal_with_their_layers_on_a_device() -> None:
    """Blocks without a size keep free memory apart, their files have no positions, and keys and values in a layer that
    is not the first."""
    rows = [row for row in recorded(ROWS) if row.devices and row.settings().n_gpu_layers > row.placement().blocks.count]
    pairs = compute_pairs(
        [row for row in rows if row.file.startswith("granite-4.0-h") and not row.settings().n_cpu_moe]
    )
    assert len(pairs) > 60
    assert max(pair.error for pair in pairs) <= 1e-4, shown(pairs)


def test_tensors_that_a_step_fills_lie_on_their_layers_device() -> None:
    """The masks of GLM-5's indexer: no input that is set, so that none is on the host."""
    rows = [row for row in recorded(ROWS) if row.devices == 1 and row.file.startswith("GLM-5@4")]
    pairs = compute_pairs([row for row in rows if row.settings().n_gpu_layers > 4])
    assert len(pairs) > 20
    assert max(pair.error for pair in pairs) <= 0.01, shown(pairs)


def test_no_device_needs_much_more_than_is_said() -> None:
    """A wrong fit is the worst fault: no buffer is more than 5 % larger."""
    assert [pair for pair in compute_pairs(recorded(SAMPLE)) if pair.ours < 0.95 * pair.told] == []
