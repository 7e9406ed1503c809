"""Components are open: a name that nobody foresaw is counted, shown and placed like `other`."""

from __future__ import annotations

from dataclasses import replace

import pytest

import hfmem
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import COMPONENTS, ParameterTable, TensorGroup, component_order
from hfmem.report.result import to_result


@pytest.fixture(scope="module")
def gpt2() -> Model:
    return hfmem.inspect("openai-community/gpt2", offline=True)


def with_component(model: Model, component: str) -> Model:
    """The model with eight tensors more, of a component."""
    assert model.parameters is not None
    group = TensorGroup(
        component=component,
        role="weight",
        shape=(64, 64),
        count=8,
        dtype="F32",
        stored_bytes=8 * 64 * 64 * 4,
        parameters=8 * 64 * 64,
        active=8 * 64 * 64,
        linear=True,
    )
    return replace(model, parameters=ParameterTable(groups=(group, *model.parameters.groups)))


def test_the_order_of_components() -> None:
    shuffled = ["zebra", "other", "embedding", "denoiser", "mtp"]
    assert sorted(shuffled, key=component_order) == ["embedding", "mtp", "other", "denoiser", "zebra"]
    assert sorted(COMPONENTS, key=component_order) == list(COMPONENTS)


def test_it_is_counted_and_shown_behind_the_known_ones(gpt2: Model) -> None:
    result = to_result(hfmem.estimate(with_component(gpt2, "denoiser"), dtype="float32", seq=64))
    assert list(result["parameters"]["by_component"])[-1] == "denoiser"
    assert result["parameters"]["by_component"]["denoiser"] == 8 * 64 * 64
    (term,) = (term for term in result["terms"] if term["name"] == "denoiser")
    assert (term["group"], term["bytes"]) == ("weights", 8 * 64 * 64 * 4)


@pytest.mark.parametrize(
    "asked",
    [
        {"tp": 2, "runtime": "vllm"},
        {"pp": 2},
        {"train": "full", "stack": "megatron", "tp": 2},
        {"train": "full", "zero": 3, "dp": 2},
    ],
    ids=str,
)
def test_it_lies_where_other_lies(gpt2: Model, asked: dict[str, object]) -> None:
    named, other = (
        hfmem.estimate(with_component(gpt2, component), seq=64, **asked).estimate for component in ("denoiser", "other")
    )
    assert named.total == other.total
    assert [rank.total for rank in named.ranks] == [rank.total for rank in other.ranks]
