"""Models of the catalog cut by the library's own functions, and the table of plans made again."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from tests.oracle import tensor_parallel

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

RECORD = json.loads(tensor_parallel.TARGET.read_text(encoding="utf-8"))["elements"]
TYPES = ("llama", "t5", "xlm-roberta", "qwen3_moe", "phi3", "deepseek_v2", "jamba", "gemma3", "gpt_neox")


@pytest.mark.parametrize("name", sorted(RECORD))
def test_the_record_is_what_a_rank_holds(name: str) -> None:
    assert tensor_parallel.measure(name) == RECORD[name]


@pytest.mark.parametrize("model_type", TYPES)
def test_the_table_is_what_the_class_says(model_type: str) -> None:
    from hfmem.probe import tensor_plans

    lines = [json.loads(line) for line in tensor_plans.TARGET.read_text(encoding="ascii").splitlines()[1:]]
    name = tensor_plans.classes()[model_type]
    model = tensor_plans.built(model_type, name)
    if not model.tp_plan:
        assert lines[0]["without"][model_type] == name
        return
    (line,) = [line for line in lines[1:] if model_type in line["types"]]
    assert {key: value for key, value in line.items() if key != "types"} == tensor_plans.row(model)
