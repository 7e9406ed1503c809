"""Solving by inverting the estimate: what it says fits, and the next larger does not."""

from __future__ import annotations

import time
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hfmem import Model, inspect
from hfmem.advice.bisection import largest
from hfmem.advice.fit import MOST, Case, fit_all, held
from hfmem.advice.values import Fit
from hfmem.engines.inference import estimate
from hfmem.errors import InvalidScenarioError
from hfmem.hardware.table import accelerators, find
from hfmem.hardware.values import Machine
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve
from tests.catalog import configs

MODELS = list(configs())
CARDS = [row.name for row in accelerators() if row.vendor in ("nvidia", "apple", "amd")]
SECONDS = 0.1  # of the processor, which others slow down by half
"""The issue's limit, for a case on an idle machine; a loaded one gets ten times that."""

model = cache(lambda name: inspect(name, offline=True))
options = st.builds(
    Options,
    batch=st.integers(1, 64),
    seq=st.integers(1, 40_000),
    runtime=st.sampled_from(["transformers", "vllm"]),
    tp=st.sampled_from([None, None, 2, 4, 8]),
    kv_dtype=st.sampled_from([None, "fp8"]),
    vllm_version=st.none(),
)


def holds(name: str, asked: Options, machine: Machine, batch: int, seq: int) -> bool:
    """By a fresh estimate, along the public road."""
    case = Case.of(model(name), asked, machine)
    return held(estimate(model(name), case.at(batch, seq)), case.scenario)


@given(name=st.sampled_from(MODELS), asked=options, card=st.sampled_from(CARDS))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_answer_fits_and_the_next_larger_does_not(name: str, asked: Options, card: str) -> None:
    machine = find(card)
    model(name)
    started = time.process_time()
    (fit,) = fit_all(model(name), asked, [machine])
    taken = time.process_time() - started
    assert taken < 20 * SECONDS  # tables are read the first time, and the other core may be busy
    if fit.estimate is None or fit.estimate.is_lower_bound:
        return
    seq, batch = fit_scenario(name, asked, machine)
    assert fit.fits == holds(name, asked, machine, batch, seq)
    if fit.refused:
        return
    if fit.max_batch is not None:
        assert fit.max_batch == 0 or holds(name, asked, machine, fit.max_batch, seq)
        assert not holds(name, asked, machine, fit.max_batch + 1, seq)
    longest = model(name).architecture.max_positions or MOST
    assert fit.max_seq is not None
    assert fit.max_seq == 0 or holds(name, asked, machine, batch, fit.max_seq)
    assert fit.max_seq == longest or not holds(name, asked, machine, batch, fit.max_seq + 1)


def fit_scenario(name: str, asked: Options, machine: Machine) -> tuple[int, int]:
    scenario = resolve(asked, model(name), machine)
    return scenario.seq, scenario.batch


@pytest.mark.parametrize("card", ["RTX 4090", "H100", "L40S"])
@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-70B-Instruct", "Qwen/Qwen3-30B-A3B", "google/gemma-3-27b-it"])
@pytest.mark.parametrize("runtime", ["transformers", "vllm"])
def test_the_fewest_fit_and_one_less_does_not(name: str, card: str, runtime: str) -> None:
    asked = Options(runtime=runtime, seq=8192)  # type: ignore[arg-type] # parametrize has no literals
    (fit,) = fit_all(model(name), asked, [find(card)])
    assert fit.gpus_needed is not None
    assert at(name, asked, card, fit.gpus_needed).fits
    for fewer in range(1, fit.gpus_needed):
        assert not at(name, asked, card, fewer).fits


def at(name: str, asked: Options, card: str, gpus: int) -> Fit:
    from dataclasses import replace

    (fit,) = fit_all(model(name), replace(asked, gpus=gpus), [find(card)])
    return fit


def test_a_case_is_quick() -> None:
    names = ["meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen3.5-27B"]
    for name in names:
        taken = []
        for _ in range(3):
            started = time.process_time()
            fit_all(model(name), Options(runtime="vllm"), [find("L40S")])
            taken.append(time.process_time() - started)
        assert min(taken) < SECONDS, name


@pytest.mark.parametrize(("most", "limit"), [(10, 7), (10, 0), (10, 10), (1, 1), (10**9, 123_456)])
def test_largest(most: int, limit: int) -> None:
    assert largest(lambda number: number <= limit, most) == min(limit, most)


def test_unknown_parts_are_neither_yes_nor_no() -> None:
    unknown: Model = inspect("albert/albert-base-v1", offline=True)
    (fit,) = fit_all(unknown, Options(seq=512), [find("H100")])
    assert fit.fits is None
    (fit,) = fit_all(unknown, Options(seq=512), [find("0.5GiB")])
    assert fit.fits is False


def test_a_refused_split_says_why() -> None:
    (fit,) = fit_all(model("meta-llama/Llama-3.1-8B-Instruct"), Options(runtime="vllm", tp=3), [find("H100")])
    assert "32 attention heads" in fit.refused
    assert fit.estimate is None
    assert fit.fits is False


def test_refused_everywhere() -> None:
    with pytest.raises(InvalidScenarioError, match="attention heads"):
        Case.of(model("meta-llama/Llama-3.1-8B-Instruct"), Options(tp=3), find("H100"))
