"""DeepSpeed's own estimators beside ours: equal where they count what lives, the difference named where they do not."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

from hfmem import Options
from hfmem.api import report_on
from hfmem.estimator.values import Phase
from tests.estimator.test_sharding import LAYERS, model

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

COUNT, RANKS = 7_500_000_000, 64
LARGEST = COUNT // LAYERS


def estimator(module: str, name: str) -> Callable[..., tuple[Any, ...]]:
    """One of DeepSpeed's, which prints when it is imported."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        pytest.importorskip("deepspeed", exc_type=ImportError)
        __import__(module)
    found: Callable[..., tuple[Any, ...]] = getattr(sys.modules[module], name)
    return found


def step(stage: int, offload: Any = "none") -> Phase:
    """Our optimizer's step."""
    options = Options(train="full", precision="bf16-master", zero=stage, dp=RANKS, offload=offload)
    return report_on(model(COUNT), options).estimate.phases[-1]


def test_stage_2_is_equal() -> None:
    theirs = estimator("deepspeed.runtime.zero.stage_1_and_2", "estimate_zero2_model_states_mem_needs")
    _, gpu = theirs(COUNT, RANKS, 1, cpu_offload=False)[:2]
    ours = step(2)
    states = sum(ours.group(g) for g in ("weights", "master_weights", "optimizer", "gradients", "temporary"))
    states -= sum(term.nbytes for term in ours.terms if term.name == "flat gradients")  # their estimator leaves it out
    assert gpu == pytest.approx(states, abs=LAYERS)


def test_stage_3_leaves_out_the_share_of_16_bit_gradients() -> None:
    theirs = estimator("deepspeed.runtime.zero.stage3", "estimate_zero3_model_states_mem_needs")
    _, gpu, largest = theirs(COUNT, LARGEST, RANKS, 1, cpu_offload=False)
    ours = step(3)
    states = sum(ours.group(g) for g in ("weights", "master_weights", "optimizer", "temporary"))
    assert largest == 4 * LARGEST
    assert gpu - largest == pytest.approx(states, abs=LAYERS)


def test_offloading_leaves_the_weights() -> None:
    stage2 = estimator("deepspeed.runtime.zero.stage_1_and_2", "estimate_zero2_model_states_mem_needs")
    stage3 = estimator("deepspeed.runtime.zero.stage3", "estimate_zero3_model_states_mem_needs")
    assert stage2(COUNT, RANKS, 1, cpu_offload=True)[1] == step(2, "optimizer").group("weights")
    _, gpu, largest = stage3(COUNT, LARGEST, RANKS, 1, cpu_offload=True, cpu_offload_params=False)
    assert gpu - largest == pytest.approx(step(3, "optimizer").group("weights"), abs=LAYERS)
    _, gpu, largest = stage3(COUNT, LARGEST, RANKS, 1, cpu_offload=True, cpu_offload_params=True)
    assert gpu == largest
    assert step(3, "parameters").group("weights") == 0
