"""The public functions: their examples run, and they do from Python what the command line does."""

from __future__ import annotations

import copy
import dataclasses
import doctest
import importlib
import json
import pickle
import pkgutil
import re
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import numpy
import pytest

import hfmem
from hfmem import api
from hfmem.errors import InvalidScenarioError, OfflineError
from hfmem.estimator.recipe.optimizers import OPTIMIZERS
from hfmem.mapper.bundle import Bundle
from tests.fetcher.test_hub import CONFIG, ROWS
from tests.hub import Hub, single

LLAMA = "meta-llama/Llama-2-7b-hf"


def test_the_examples_run() -> None:
    failures, tried = doctest.testmod(api)
    assert (failures, tried >= 6) == (0, True)


def test_a_model_is_fetched_once_and_estimated_often(hub: Hub) -> None:
    hub.put(single("org/small", CONFIG, ROWS))
    model = hfmem.inspect("org/small", use_cache=False)
    asked = len(hub.requests)
    totals = [hfmem.estimate(model, batch=batch, seq=16).estimate.total for batch in (1, 2, 3)]
    assert totals == sorted(totals)
    assert len(hub.requests) == asked


def test_comparing_keeps_the_order_and_gives_errors_back(hub: Hub) -> None:
    hub.put(single("org/a", CONFIG, ROWS), single("org/b", CONFIG, ROWS))
    first, missing, second = hfmem.compare(["org/b", "org/none", "org/a"], seq=16)
    assert isinstance(first, hfmem.Report)
    assert isinstance(second, hfmem.Report)
    assert (first.checkpoint.ref.model_id, second.checkpoint.ref.model_id) == ("org/b", "org/a")
    assert isinstance(missing, hfmem.HfmemError)
    assert missing.model == "org/none"


def test_errors_are_raised_as_one_family() -> None:
    with pytest.raises(OfflineError):
        hfmem.inspect("org/none", offline=True)
    with pytest.raises(InvalidScenarioError):
        hfmem.estimate(LLAMA, batch=0, offline=True)
    with pytest.raises(TypeError, match="color"):
        hfmem.estimate(LLAMA, color="red")


def test_values_are_frozen() -> None:
    model = hfmem.inspect(LLAMA, offline=True)
    with pytest.raises(AttributeError):
        model.architecture.hidden_size = 1


PUBLIC = [getattr(hfmem, name) for name in hfmem.__all__ if isinstance(getattr(hfmem, name), type)]


def classes() -> list[type]:
    """Every class of the package; without the probe, which needs PyTorch, and the page's server, which needs Gradio."""
    names = [found.name for found in pkgutil.walk_packages(hfmem.__path__, "hfmem.")]
    left_out = re.compile(r"\.probe|__main__|\.web\.server")
    modules = [importlib.import_module(name) for name in names if not left_out.search(name)]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]


def test_the_types_of_every_class_can_be_read() -> None:
    """As polars, pydantic and their like read them."""
    assert {each.__name__ for each in PUBLIC} <= {each.__name__ for each in classes()}
    for each in classes():
        get_type_hints(each)
    assert "fits" in get_type_hints(hfmem.Report)
    for function in (hfmem.estimate, hfmem.inspect, hfmem.compare, hfmem.variants):
        assert get_type_hints(function).keys() == {*signature(function).parameters, "return"}


def test_what_is_printed_at_a_prompt_is_a_line() -> None:
    report = hfmem.estimate(LLAMA, offline=True, gpu=("H100", "T4"))
    values = (report, report.model, report.checkpoint, report.estimate, report.architecture, report.parameters)
    for value in (*values, *report.fits, hfmem.Options(gpu="H100"), Bundle.of(report.model)):
        assert len(repr(value)) < 200
        assert "\n" not in repr(value)
    assert repr(report) == (
        f"<Report {LLAMA!r}: inference, batch 1 × 4,096 tokens, 15.45 GiB, fits on 1 of 2 accelerators named>"
    )
    assert repr(hfmem.Options(batch=2, seq="4k")) == "Options(batch=2, seq=4096)"


def test_numbers_as_people_and_other_packages_have_them() -> None:
    model = hfmem.inspect(LLAMA, offline=True)
    asked = hfmem.estimate(model, batch=4, seq=32768)
    for batch, seq in ((numpy.int64(4), "32k"), (4, "32K"), (numpy.array(4), "32,768"), (4, numpy.int32(32768))):
        found = hfmem.estimate(model, batch=batch, seq=seq)
        assert found.estimate.total == asked.estimate.total
        assert type(found.scenario.batch) is int
    served = hfmem.estimate(model, runtime="vllm", gpu="H100", gpu_memory_utilization=numpy.float32(0.5))
    assert served.fits is not None


@pytest.mark.parametrize(("asked", "words"), [
    ({"batch": 1.5}, "--batch is 1.5, expected a whole number"),
    ({"batch": True}, "--batch is True, expected a whole number"),
    ({"batch": numpy.float64(1.5)}, "--batch is 1.5, expected a whole number"),
    ({"seq": "many"}, "--seq is 'many', expected a whole number such as 4096"),
    ({"seq": "0k"}, "--seq is 0, expected 1 to"),
    ({"attention": "flash2"}, "--attention 'flash2' is not one of sdpa, flash, eager (did you mean 'flash'?)"),
    ({"runtime": "tgi"}, "--runtime 'tgi' is not one of"),
    ({"method": "foo"}, "--method 'foo' is not one of"),
    ({"train": "rlhf"}, "--train 'rlhf' is not one of"),
    ({"train": "full", "optimizer": "adamm"}, "(did you mean 'adamw'?)"),
    ({"dtype": "bfloat61"}, "(did you mean 'bfloat16'?)"),
    ({"gpu": 3}, "--gpu is 3, expected a list"),
    ({"batch": 4.0}, "--batch is 4.0, expected a whole number"),
    ({"gpu": b"H100"}, "--gpu is b'H100', expected a list"),
    ({"gpu": "H" * 500}, f"--gpu '{'H' * 80}…' is not in the table"),
    ({"dtype": "x" * 500}, f"--dtype '{'x' * 80}…' is not one of"),
    ({"train": "full", "optimizer": "x" * 500}, f"--optimizer '{'x' * 80}…' is not one of"),
    ({"runtime": "v"}, "--runtime 'v' is not one of transformers, vllm"),
    ({"runtime": "vl"}, "(did you mean 'vllm'?)"),
    ({"seq": numpy.array([1, 2])}, "--seq is array([1, 2]), expected a whole number"),
    ({"gradient_checkpointing": 1, "train": "full"}, "--gradient-checkpointing is 1, expected true or false"),
])  # fmt: skip
def test_python_and_options_refuse_alike(asked: dict[str, Any], words: str) -> None:
    model = hfmem.inspect(LLAMA, offline=True)
    for ask in (lambda: hfmem.estimate(model, **asked), lambda: api.report_on(model, hfmem.Options(**asked))):
        with pytest.raises(InvalidScenarioError) as error:
            ask()
        assert words in error.value.reason
        assert len(error.value.reason) < 650


def test_a_switch_whose_flag_says_the_opposite_is_called_by_its_name() -> None:
    with pytest.raises(InvalidScenarioError) as error:
        hfmem.inspect(LLAMA, use_cache="no")
    assert error.value.reason == "use_cache is 'no', expected true or false"


def test_errors_name_their_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    model = hfmem.inspect(LLAMA, offline=True)
    asks: list[tuple[str, Callable[[], object]]] = [
        (LLAMA, lambda: hfmem.estimate(LLAMA, tp=64, offline=True)),
        (LLAMA, lambda: hfmem.estimate(model, tp=64)),
        (LLAMA, lambda: hfmem.estimate(Bundle.of(model), tp=64)),
        ("org/none", lambda: hfmem.inspect("org/none", offline=True)),
        (str(tmp_path), lambda: hfmem.inspect(str(tmp_path))),
    ]
    for name, ask in asks:
        with pytest.raises(hfmem.HfmemError) as error:
            ask()
        assert error.value.model == name
    (compared,) = hfmem.compare(LLAMA, tp=64, offline=True)
    with pytest.raises(hfmem.HfmemError) as error:
        hfmem.estimate(LLAMA, tp=64, offline=True)
    assert str(error.value) == str(compared)


def test_what_is_compared() -> None:
    """Ids, paths, models, bundles; what is none of these is its own error, and costs the others nothing."""
    model = hfmem.inspect(LLAMA, offline=True)
    asked: Any = [model, LLAMA, 5, Bundle.of(model), "org/none", None, b"x"]
    found = hfmem.compare(asked, offline=True, seq=64)
    kinds = [type(each).__name__ for each in found]
    wrong = "ModelNameError"
    assert kinds == ["Report", "Report", wrong, "Report", "OfflineError", wrong, wrong]
    assert [str(found[index]) for index in (2, 5)] == [
        "5: a model is 5, expected a Hub id or a path",
        "None: a model is None, expected a Hub id or a path",
    ]
    (alone,) = hfmem.compare(model, seq=64)
    assert alone == found[0]
    assert hfmem.compare([], offline=True) == ()
    failed, fine = hfmem.compare([model, hfmem.inspect("openai-community/gpt2", offline=True)], tp=32)
    assert isinstance(failed, hfmem.Report)
    assert isinstance(fine, InvalidScenarioError)
    assert fine.model == "openai-community/gpt2"
    for nothing in (None, 5, b"gpt2"):
        with pytest.raises(InvalidScenarioError, match="expected Hub ids or paths, or a list of such"):
            hfmem.compare(nothing)


@pytest.mark.parametrize("name", ["inspect", "estimate", "compare", "variants"])
def test_wrong_calls_name_the_function(name: str) -> None:
    function = getattr(hfmem, name)
    with pytest.raises(TypeError, match=rf"^{name}\(\): missing a required argument: 'model"):
        function()
    with pytest.raises(TypeError, match=rf"^{name}\(\): too many positional arguments; .* options by their names"):
        function(LLAMA, 4)


def test_one_string_where_several_are_meant_is_one_value(tmp_path: Path) -> None:
    model = hfmem.inspect(LLAMA, offline=True)
    names = [[fit.gpu.name for fit in hfmem.estimate(model, gpu=gpu).fits] for gpu in ("H100", ("H100",))]
    assert names == [["H100 80GB"]] * 2
    assert hfmem.Options(gpu="H100").gpu == ("H100",)
    (report,) = hfmem.compare(LLAMA, offline=True)
    assert isinstance(report, hfmem.Report)
    again, other = hfmem.compare([LLAMA, LLAMA], offline=True)
    assert isinstance(again, hfmem.Report)
    assert isinstance(other, hfmem.Report)


def test_models_may_be_paths_and_addresses_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert hfmem.inspect(tmp_path).checkpoint.source == "local"
    found = hfmem.inspect(f"https://huggingface.co/{LLAMA}/tree/main", offline=True)
    assert found.checkpoint.ref.model_id == LLAMA
    for wrong in (None, 3):
        with pytest.raises(InvalidScenarioError, match="expected a Hub id or a path"):
            hfmem.estimate(wrong)


def test_a_misspelt_keyword_names_the_one_that_may_be_meant() -> None:
    with pytest.raises(TypeError, match="did you mean 'optimizer'"):
        hfmem.estimate(LLAMA, optimiser="adamw")


RUNS: list[dict[str, Any]] = [
    {},
    {"gpu": ("H100",), "runtime": "vllm"},
    {"train": "full", "gpu": ("H100",)},
    {"train": "qlora", "optimizer": "paged-adamw-8bit"},
    *({"train": "full", "optimizer": row.name} for row in OPTIMIZERS),
]


@pytest.mark.parametrize("asked", RUNS, ids=str)
def test_reports_are_values(asked: dict[str, Any]) -> None:
    """They can be pickled, copied, hashed, and written as JSON."""
    report = hfmem.estimate("openai-community/gpt2", offline=True, **asked)
    for again in (pickle.loads(pickle.dumps(report)), copy.deepcopy(report), copy.copy(report)):
        assert again == report
        assert hash(again) == hash(report)
    assert "function" not in repr(report.scenario)
    assert json.loads(json.dumps(dataclasses.asdict(report)))["estimate"]["terms"]
    assert len({report, report.model, report.checkpoint, report.scenario, report.estimate}) == 5


def test_a_word_that_is_no_group_is_refused() -> None:
    report = hfmem.estimate(LLAMA, offline=True, train="full")
    for ask in (report.estimate.group, report.estimate.phases[0].group):
        with pytest.raises(ValueError, match=r"'kv' is not one of weights, kv_cache, .*\(did you mean 'kv_cache'\?\)"):
            ask("kv")
