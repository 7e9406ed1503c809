"""Rows of a table answer as the tensors that they stand for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hfmem.fetcher import catalog
from hfmem.fetcher.tensors import TensorRow, Tensors, row, rows_of, stored_bytes
from hfmem.fetcher.values import ModelRef, TensorInfo
from hfmem.mapper.interpret import interpret

ODD = TensorInfo(name="brace{0-9}", dtype="BF16", shape=(2,), nbytes=5, file="f")
ROWS = (row("a.{0-2}.b", "F32", (2, 3), "f"), row("c", "BF16", ()), TensorRow(ODD.name, ODD, 1))
SPELT = (
    *(TensorInfo(name=f"a.{number}.b", dtype="F32", shape=(2, 3), nbytes=24, file="f") for number in range(3)),
    TensorInfo(name="c", dtype="BF16", shape=(), nbytes=2, file=""),
    ODD,
)


def test_they_are_a_sequence() -> None:
    tensors = Tensors(ROWS)
    assert (len(tensors), tuple(tensors), stored_bytes(tensors)) == (5, SPELT, stored_bytes(SPELT))
    assert [tensors[place] for place in range(-5, 5)] == [*SPELT, *SPELT]
    assert (tensors[1:3], tensors[::-1]) == (SPELT[1:3], SPELT[::-1])
    with pytest.raises(IndexError):
        tensors[5]
    assert (tensors == SPELT, tensors == SPELT, tensors == Tensors(tuple(rows_of(SPELT))), tensors == SPELT[1:]) == (
        *(True, True, True),
        False,
    )
    assert hash(tensors) == hash(SPELT)
    assert not Tensors(())


def test_the_rows_of_no_pattern_are_its_tensors_in_one_way_or_the_other() -> None:
    """Numbers that are no parts of their own: `fc1` and `fc2` are two modules."""
    found = catalog.find(ModelRef(model_id="openai-community/gpt2"))
    assert found is not None
    rows = (row("h.{0-1}.fc{1-2}.weight", "F32", (8, 4)), row("h.0.attn.{0-1}.weight", "F32", (8, 4)))
    by_row = interpret(replace(found, tensors=Tensors(rows)))
    assert by_row.parameters == interpret(replace(found, tensors=tuple(Tensors(rows)))).parameters


@pytest.mark.parametrize("model", ["openai-community/gpt2", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V3"])
def test_a_model_is_the_same_by_its_rows_and_by_its_tensors(model: str) -> None:
    """The last has a layer beyond its own."""
    found = catalog.find(ModelRef(model_id=model))
    assert found is not None
    by_row, one_by_one = interpret(found), interpret(replace(found, tensors=tuple(found.tensors)))
    assert by_row.parameters == one_by_one.parameters
    assert by_row.notes == one_by_one.notes
