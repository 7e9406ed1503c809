"""The public functions: their examples run, and they do from Python what the command line does."""

from __future__ import annotations

import doctest

import pytest

import hfmem
from hfmem import api
from hfmem.errors import InvalidScenarioError, OfflineError
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
        hfmem.estimate(LLAMA, color="red")  # type: ignore[call-arg]


def test_values_are_frozen() -> None:
    model = hfmem.inspect(LLAMA, offline=True)
    with pytest.raises(AttributeError):
        model.architecture.hidden_size = 1  # type: ignore[misc]
