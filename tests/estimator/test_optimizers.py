"""Bytes of optimizer states by tensor shape, against what real ones kept (`fixtures/oracle/optimizers.json`)."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from hfmem.estimator.recipe.optimizers import OPTIMIZERS, Kept, find_optimizer

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "optimizers.json").read_text(encoding="utf-8")
)
WIDTHS = {"float32": 4, "bfloat16": 2}
CASES = [
    (name, dtype, shape, nbytes)
    for name, by_dtype in RECORDED["bytes"].items()
    for dtype, by_shape in by_dtype.items()
    for shape, nbytes in by_shape.items()
    if nbytes is not None
]


def ours(name: str, dtype: str, shape: tuple[int, ...]) -> int:
    """Of one tensor alone: tables that are kept once belong to it where its state is quantised."""
    row = find_optimizer(name)
    assert row is not None
    rank = 1 if name == "apollo-mini" else RECORDED["rank"]
    matrix = len(shape) == 2
    states = row.states(Kept(shape=shape, width=WIDTHS[dtype], matrix=matrix, rank=rank))
    moment = (min(rank, *shape), max(shape)) if row.rank and matrix else shape
    return states + (row.once if prod(moment) >= 4096 else 0)


@pytest.mark.parametrize(("name", "dtype", "shape", "nbytes"), CASES, ids=str)
def test_states_are_those_of_the_real_optimizer(name: str, dtype: str, shape: str, nbytes: int) -> None:
    assert ours(name, dtype, tuple(map(int, shape.split("x")))) == nbytes


def test_every_recorded_optimizer_was_measured_on_five_shapes() -> None:
    shapes: dict[str, set[str]] = {}
    for name, _, shape, _ in CASES:
        shapes.setdefault(name, set()).add(shape)
    assert len(shapes) >= 30

    assert all(len(found) >= 5 for found in shapes.values())


def test_names_are_unique() -> None:
    names = [name for row in OPTIMIZERS for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", OPTIMIZERS, ids=lambda row: row.name)
def test_rows_are_sourced_and_never_negative(row: Any) -> None:
    assert row.source
    assert row.describe
    assert row.states(Kept(shape=(1,), width=4, rank=row.rank)) >= 0


def test_embeddings_stay_out_of_8_bits() -> None:
    row = find_optimizer("adamw_bnb_8bit")
    assert row is not None
    assert row.states(Kept(shape=(1000, 64), width=2, embedding=True)) == 2 * 4 * 64_000
