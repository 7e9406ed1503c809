"""Plain models as GGUF, against what llama.cpp's own tools made of them (`fixtures/gguf/conversions.jsonl`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from hfmem.fetcher import catalog
from hfmem.fetcher.tensors import table_bytes
from hfmem.fetcher.values import ModelRef
from hfmem.mapper.gguf.conversion.convert import Conversion, conversion_of
from hfmem.mapper.gguf.quantisation import NoTypeError, types
from hfmem.mapper.interpret import interpret
from tests.oracle.conversions import RECORDED, digest

ROWS: Final[list[dict[str, Any]]] = [json.loads(line) for line in Path(RECORDED).read_text("utf-8").splitlines()[1:]]
SMALLEST: Final = {row["architecture"]: row for row in sorted(ROWS, key=lambda row: -row["tensors"])}
"""One model of each architecture; the others take as long again."""
EACH: Final = [
    pytest.param(row, id=row["model"], marks=() if SMALLEST[row["architecture"]] is row else pytest.mark.slow)
    for row in ROWS
]


def conversion(model: str) -> Conversion:
    checkpoint = catalog.find(ModelRef(model_id=model))
    assert checkpoint is not None
    found = conversion_of(checkpoint, interpret(checkpoint).architecture)
    assert isinstance(found, Conversion), found
    return found


def test_enough_models_are_recorded() -> None:
    assert len(ROWS) >= 20
    assert len({row["architecture"] for row in ROWS}) >= 12


@pytest.mark.parametrize("row", EACH)
def test_tensors_are_those_of_the_converter(row: dict[str, Any]) -> None:
    found = conversion(row["model"])
    assert (found.architecture, len(found.tensors)) == (row["architecture"], row["tensors"])
    assert digest(found.tensors) == row["digest"]


@pytest.mark.parametrize("row", EACH)
def test_quantisations_are_those_of_the_dry_run(row: dict[str, Any]) -> None:
    """To the byte, without an importance matrix, as the dry run was asked; what llama-quantize refuses is not made."""
    found = conversion(row["model"])
    for name, told in row["bytes"].items():
        if told is None:
            with pytest.raises(NoTypeError):
                types(found.tensors, found.rules, name, matrix=False)
        else:
            given = types(found.tensors, found.rules, name, matrix=False)
            assert sum(table_bytes(given[tensor.name], tensor.shape) for tensor in found.tensors) == told, name


def test_what_needs_an_importance_matrix_is_made_with_one() -> None:
    """llama-quantize asks for one where a tensor's type is IQ3_XXS (`tensor_requires_imatrix`)."""
    found = conversion("Qwen/Qwen3-0.6B")
    made = {choice.quant: choice.size for choice in found.choices()}
    given = types(found.tensors, found.rules, "IQ3_XXS", matrix=True)
    assert made["IQ3_XXS"] == sum(table_bytes(given[tensor.name], tensor.shape) for tensor in found.tensors)
    assert "IQ3_XXS" in given.values()


REPOSITORIES: Final = tuple(name for name in catalog.model_ids() if catalog.quantised_of(name))
OF: Final = {catalog.quantised_of(name): name for name in REPOSITORIES}


def test_widely_used_repositories_are_known() -> None:
    assert len(OF) >= 25
    assert set(OF) <= set(catalog.model_ids())


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if number % 8 == 0 else pytest.mark.slow) for number, name in enumerate(OF.values())],
)
def test_a_repository_that_is_known_by_name_has_its_quantisations(name: str) -> None:
    checkpoint = catalog.find(ModelRef(model_id=name))
    assert checkpoint is not None
    assert checkpoint.quantised_of == catalog.quantised_of(name)
    found = conversion_of(checkpoint, interpret(checkpoint).architecture)
    assert isinstance(found, Conversion), found
    sizes = {choice.quant: choice.size or 0 for choice in found.choices()}
    assert {"Q4_K_M", "Q8_0", "F16"} <= sizes.keys()
    assert sizes["Q4_K_M"] < sizes["Q8_0"] < sizes["F16"]
