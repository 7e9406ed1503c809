"""Layouts and recipes of quantisations, against what real libraries made (`fixtures/oracle/quantisers.json`)."""

from __future__ import annotations

import json
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, Final

import pytest

from hfmem import inspect
from hfmem.engines.transformers.formats import RECIPES
from hfmem.estimator.weights.quantisers import layout
from hfmem.estimator.weights.recipes import RECIPES as TOOLS
from hfmem.estimator.weights.recipes import Recipe, fitting
from hfmem.mapper.interpret import interpret

RECORDED: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "quantisers.json").read_text(encoding="utf-8")
)


def packed(recipe: Recipe, name: str) -> int:
    """Parameters of a model of the catalog that a recipe packs."""
    model = inspect(name, offline=True)
    if model.quantisation is not None:  # gpt-oss, before it was packed
        config = {key: value for key, value in (model.checkpoint.config or {}).items() if key != "quantization_config"}
        model = interpret(replace(model.checkpoint, config=config, tensors=None, files=()))
    assert model.parameters is not None
    groups = [group for group in model.parameters.groups if group.loaded]
    (recipe,) = fitting([recipe], recipe.dtype, "", groups, conv1d=model.architecture.conv1d)
    biased = {(group.component, group.module) for group in groups if group.bias}
    found = [group for group in groups if recipe.quantiser(group, (group.component, group.module) in biased)]
    return sum(group.parameters for group in found)


def recipe_of(row: dict[str, Any]) -> Recipe:
    """The recipe of a row: an engine's, else a tool's."""
    return next(item for item in (*RECIPES, *TOOLS) if (item.name, item.dtype) == (row["recipe"], row["dtype"]))


@pytest.mark.parametrize("row", RECORDED["layouts"], ids=lambda row: f"{row['by']} {row['shape']}")
def test_a_matrix_takes_what_the_library_made_of_it(row: dict[str, Any]) -> None:
    """To the byte. compressed-tensors writes scales of 8 bits a weight in the model's dtype, which engines hold in
    float32: two bytes more of each."""
    found, shape = layout(row["layout"]), tuple(row["shape"])
    made = sum(nbytes for _, nbytes in row["parts"].values())
    narrow = [nbytes for dtype, nbytes in row["parts"].values() if dtype == "bfloat16"]
    if found.bits == 8 and narrow:
        made += sum(narrow)
    assert found.nbytes(shape, 1) == made
    assert made < 2 * prod(shape)


@pytest.mark.parametrize(
    "row", RECORDED["recipes"], ids=lambda row: f"{row['recipe']} {row['dtype']} {row['model'].split('/')[1]}"
)
def test_a_recipe_packs_what_the_library_packs(row: dict[str, Any]) -> None:
    assert packed(recipe_of(row), row["model"]) == row["packed"]
