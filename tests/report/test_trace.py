"""`--trace` in reports, and what is said where it cannot be."""

from __future__ import annotations

from dataclasses import replace
from importlib.machinery import ModuleSpec
from typing import Any

import pytest

from hfmem import estimate
from hfmem.engines.transformers import options
from hfmem.errors import InvalidScenarioError, UntraceableError
from hfmem.estimator.values import Trace
from hfmem.report.card import to_card
from hfmem.report.errors import explain
from hfmem.report.result import to_result
from hfmem.report.values import Report
from hfmem.scenario.check import check
from hfmem.scenario.options import Options

GIB = 2**30
TRACE = Trace(
    phase="head",
    groups={"weights": 12 * GIB, "kv_cache": 2 * GIB, "activations": 1 * GIB, "gradients": 4},
    phases={"layers": 14 * GIB, "head": 15 * GIB},
    layers=5,
    seconds=1.5,
    source="transformers 5.24.0, PyTorch 2.13.0",
)


def traced() -> Report:
    return replace(estimate("meta-llama/Llama-2-7b-hf", offline=True), trace=TRACE)


def installed(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    found = ModuleSpec("torch", None) if there else None
    monkeypatch.setattr(options, "find_spec", lambda name: found)


def test_json_has_the_peak_beside_the_estimate_without_overhead() -> None:
    report = traced()
    found = to_result(report)
    overhead = found["memory"]["overhead"]
    assert found["trace"] == {
        "peak": 15 * GIB + 4,
        "weights": 12 * GIB,
        "kv_cache": 2 * GIB,
        "activations": GIB,
        "gradients": 4,
        "phase": "head",
        "phases": {"layers": 14 * GIB, "head": 15 * GIB},
        "estimate": found["memory"]["total"] - overhead,
        "difference": found["memory"]["total"] - overhead - 15 * GIB - 4,
        "layers": 5,
        "source": TRACE.source,
        "seconds": 1.5,
    }
    assert "trace" not in to_result(replace(report, trace=None))


def test_a_card_has_both_side_by_side() -> None:
    lines = to_card(traced(), "GiB", 100).splitlines()
    start = next(number for number, line in enumerate(lines) if line.split() == ["traced", "estimated"])
    rows = [line.split() for line in lines[start + 2 : start + 6]]
    assert [row[0] for row in rows] == ["weights", "KV", "activations", "peak"]
    assert rows[0][1:3] == ["12.00", "GiB"]
    assert rows[-1][1:3] == ["15.00", "GiB"]
    assert rows[-1][-1].endswith("%)")
    assert "traced" not in to_card(replace(traced(), trace=None), "GiB", 100)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"runtime": "vllm"}, "--trace is an option of transformers"),
        ({"method": "textbook"}, "--trace cannot be used with --method textbook"),
        ({"gpus": 2}, "--trace runs on one GPU"),
        ({"tp": 4}, "--trace runs on one GPU"),
    ],
)
def test_what_it_does_not_go_with(asked: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, there=True)
    with pytest.raises(InvalidScenarioError, match=words):
        check(Options(trace=True, **asked))


def test_without_pytorch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, there=False)
    with pytest.raises(InvalidScenarioError) as caught:
        check(Options(trace=True))
    assert "pip install 'hfmem[probe]'" in explain(caught.value).message
    check(Options())


def test_a_class_that_cannot_be_traced_is_told_with_the_next_step() -> None:
    problem = explain(UntraceableError("org/model", "transformers 5.24.0 has no class for it"))
    assert problem.message == "org/model cannot be traced (transformers 5.24.0 has no class for it)."
    assert "--trace" in problem.hint
