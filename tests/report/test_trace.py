"""`--trace` in reports, and what is said where it cannot be."""

from __future__ import annotations

from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from hfmem import estimate
from hfmem.engines import tracing
from hfmem.errors import InvalidScenarioError, UntraceableError
from hfmem.estimator.traced import Trace
from hfmem.report.card import to_card
from hfmem.report.errors import explain
from hfmem.report.result import to_result
from hfmem.report.values import Report
from hfmem.scenario.check import check
from hfmem.scenario.options import Options
from tests.test_gguf import made

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
    """PyTorch, and no llama.cpp."""
    found = {"torch": ModuleSpec("torch", None)} if there else {}
    monkeypatch.setattr(tracing, "find_spec", found.get)
    monkeypatch.delenv(tracing.FOLDER, raising=False)


def library(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A file of the name that llama.cpp's library has."""
    (folder / "libllama.so").touch()
    monkeypatch.setenv(tracing.FOLDER, str(folder))


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
        ({"runtime": "vllm"}, "--trace is an option of transformers and llama.cpp"),
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


def refusal(**asked: Any) -> str:
    """The sentence; "" where it is not refused."""
    try:
        check(Options(trace=True, **asked))
    except InvalidScenarioError as error:
        return explain(error).message
    return ""


def test_each_engine_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed(monkeypatch, there=False)
    torch, llamacpp = "pip install 'hfmem[probe]'", "pip install llama-cpp-python"
    assert torch in refusal()
    assert llamacpp in refusal()  # which one it is, the model says
    assert torch in refusal(runtime="transformers")
    assert llamacpp not in refusal(runtime="transformers")
    assert refusal(runtime="llamacpp").startswith("--trace of a GGUF needs a library of llama.cpp")
    assert tracing.FOLDER in refusal(runtime="llamacpp")
    library(monkeypatch, tmp_path)
    assert refusal(runtime="llamacpp") == ""
    assert refusal() == ""
    assert torch in refusal(runtime="transformers")


def test_llama_cpp_is_asked_of_the_whole_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed(monkeypatch, there=False)
    library(monkeypatch, tmp_path)
    assert refusal(runtime="llamacpp", gpus=2, prompt=100) == ""
    assert "runs on one GPU" in refusal(gpus=2)


def test_the_folder_of_the_python_package_is_found_without_loading_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(tracing.FOLDER, raising=False)
    package = tmp_path / "llama_cpp"
    (package / "lib").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert tracing.library_folder() is None
    (package / "lib" / "libllama.so").touch()
    assert tracing.library_folder() == package / "lib"
    monkeypatch.setenv(tracing.FOLDER, str(tmp_path))
    assert tracing.library_folder() is None


def test_what_a_model_turns_out_to_be_decides_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed(monkeypatch, there=True)
    path = made(tmp_path, "Qwen2.5-0.5B.Q4_K_M.gguf")
    with pytest.raises(InvalidScenarioError) as caught:
        estimate(str(path), trace=True)
    assert explain(caught.value).message.startswith("--trace of a GGUF needs a library of llama.cpp")


def test_another_release_than_the_librarys_is_not_traced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library(monkeypatch, tmp_path)
    path = made(tmp_path, "Qwen2.5-0.5B.Q4_K_M.gguf")
    with pytest.raises(UntraceableError, match=r"the library is of llama\.cpp 0\.5\.0, not of 2025-08"):
        estimate(str(path), trace=True, llamacpp_version="2025-08")


def test_an_estimate_of_its_own_stands_beside() -> None:
    own = replace(TRACE, subject="llama.cpp,", estimate={"weights": 11 * GIB, "kv_cache": 2 * GIB})
    report = replace(traced(), trace=own)
    found = to_result(report)["trace"]
    assert (found["estimate"], found["difference"]) == (13 * GIB, 13 * GIB - TRACE.peak)
    lines = to_card(report, "GiB", 100).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("traced on llama.cpp, without weights"))
    rows = [line.split() for line in lines[start + 3 : start + 6]]
    assert rows[0][1:] == ["12.00", "GiB", "11.00", "GiB"]
    assert rows[2][-1] == "unknown"


def test_a_class_that_cannot_be_traced_is_told_with_the_next_step() -> None:
    problem = explain(UntraceableError("org/model", "transformers 5.24.0 has no class for it"))
    assert problem.message == "org/model cannot be traced (transformers 5.24.0 has no class for it)."
    assert "--trace" in problem.hint
