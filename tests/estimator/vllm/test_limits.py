"""What a vLLM server has room for: no more than its own limits, and beside what its budget does not count."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem import estimate
from hfmem.units import GIB
from tests.command import run

QWEN = "Qwen/Qwen3-8B"
CARD = ("RTX 4090",)


def server(**asked: Any) -> Any:
    return estimate(QWEN, runtime="vllm", offline=True, **asked)


def test_no_larger_batch_than_runs_at_once() -> None:
    free, limited = (server(gpu=("H100",), seq=4096, max_num_seqs=seqs).fits[0].max_batch for seqs in (None, 16))
    assert limited == 16 < free


def test_a_mix_leaves_contexts_that_hold_its_requests() -> None:
    """Shorter ones than the mix's requests are refused, which says nothing of longer ones."""
    with_mix, without = (
        server(gpu=CARD, dtype="fp8", seq=8192, **asked).fits[0].max_seq for asked in ({"request_mix": "1000+500"}, {})
    )
    assert with_mix == without > 8192


def test_a_release_that_nobody_has_read_is_told() -> None:
    notes = " ".join(server(vllm_version="9.9").notes)
    assert "vLLM 9.9 is newer than 0.33" in notes
    assert "source of vLLM 9.9" not in notes
    assert "is newer than" not in " ".join(server(vllm_version="0.33").notes)


def test_host_memory_is_on_the_card() -> None:
    done = run(QWEN, "--runtime", "vllm", "--gpu", *CARD, "--cpu-offload-gb", "4", "--kv-offloading-size", "8")
    (told,) = [row for row in done.stdout.splitlines() if row.startswith("host memory:")]
    assert "offloaded weights 4.0" in told
    assert "KV cache in host memory 8.00 GiB" in told


@pytest.mark.parametrize(
    ("utilization", "refused", "warned"), [(0.9, False, False), (0.97, False, True), (0.99, True, False)]
)
def test_graphs_come_on_top_of_the_budget(utilization: float, refused: bool, warned: bool) -> None:
    """Up to 0.19 CUDA graphs are captured after the pool has filled the budget."""
    report = server(gpu=CARD, vllm_version="0.17", gpu_memory_utilization=utilization)
    assert bool(report.fits[0].refused or report.estimate.serving.refused) == refused
    assert (report.estimate.serving.remark.startswith("Full steps may run out of memory")) == warned
    outside = report.estimate.group("overhead")
    assert warned == (not refused and outside + utilization * 24 * GIB > 23.64 * GIB)
