"""A table of Arrow in, a table of Arrow out, and the engines that call it for each part of a table."""

from __future__ import annotations

import json
from typing import Any

import pytest

import hfmem
from hfmem.errors import HfmemError
from hfmem.scan import estimate_batch

pytestmark = pytest.mark.extras

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def arrow() -> Any:
    return pytest.importorskip("pyarrow")


def test_a_row_comes_for_each_id(arrow: Any) -> None:
    names = ["openai-community/gpt2", "org/nothing", None, "openai-community/gpt2"]
    found = estimate_batch(arrow.table({"id": names}), gpu=("24GB",), seq=512, offline=True)
    rows = found.to_pylist()
    assert [row["line"] for row in rows] == [1, 2, 3, 4]
    assert [row["error"] for row in rows] == [None, "offline_error", "model_not_found_error", None]
    alone = hfmem.estimate("openai-community/gpt2", gpu=("24GB",), seq=512, offline=True)
    assert rows[0]["total"] == rows[3]["total"] == alone.estimate.total
    assert {rows[0][name] for name in found.schema.names if name.startswith("fits: ")} == {True}
    assert found.schema == estimate_batch(arrow.table({"id": names[1:2]}), gpu=("24GB",), seq=512, offline=True).schema


def test_a_config_is_enough(arrow: Any) -> None:
    """Nothing is fetched, and what is wrong with one is a column of its row."""
    texts = [json.dumps(LLAMA), json.dumps({**LLAMA, "num_hidden_layers": 3}), "{", None]
    table = arrow.table({"id": ["a/one", "a/two", "a/broken", "a/none"], "config": texts})
    rows = estimate_batch(table, seq=128, offline=True).to_pylist()
    layer = 4 * 64 * 64 + 3 * 64 * 128 + 2 * 64
    assert rows[0]["parameters"] == 2 * 100 * 64 + 64 + 2 * layer
    assert rows[1]["parameters"] - rows[0]["parameters"] == layer
    assert rows[0]["kv_cache"] == 2 * 2 * 128 * 64 * 2
    assert [row["error"] for row in rows] == [None, None, "invalid_config_error", "offline_error"]


def test_wrong_options_are_refused(arrow: Any) -> None:
    table = arrow.table({"id": ["openai-community/gpt2"]})
    with pytest.raises(HfmemError):
        estimate_batch(table, seq=0)
    with pytest.raises(TypeError, match="sequence"):
        estimate_batch(table, sequence=1)
    with pytest.raises(KeyError):
        estimate_batch(arrow.table({"name": ["openai-community/gpt2"]}), offline=True)


@pytest.mark.scale
@pytest.mark.filterwarnings("default")  # of DuckDB's own
def test_duckdb_takes_the_rows_and_calls_it(arrow: Any) -> None:
    duckdb = pytest.importorskip("duckdb")
    names = ["openai-community/gpt2", "Qwen/Qwen3-8B"]
    rows = estimate_batch(arrow.table({"id": names}), offline=True)
    connection = duckdb.connect()
    connection.register("sizes", rows)
    largest = connection.sql("select model from sizes order by total desc limit 1").fetchall()
    assert largest == [("Qwen/Qwen3-8B",)]

    def total(ids: Any) -> Any:
        return estimate_batch(arrow.table({"id": ids}), offline=True).column("total")

    connection.create_function("total", total, ["VARCHAR"], "BIGINT", type="arrow")
    found = connection.sql("select total(id) from (values ('openai-community/gpt2'), ('Qwen/Qwen3-8B')) ids(id)")
    assert sorted(value for (value,) in found.fetchall()) == sorted(rows.column("total").to_pylist())


@pytest.mark.scale
def test_polars_takes_the_rows_and_calls_it(arrow: Any) -> None:
    polars = pytest.importorskip("polars")
    names = ["openai-community/gpt2", "Qwen/Qwen3-8B"]
    rows = estimate_batch(arrow.table({"id": names}), offline=True)
    frame = polars.from_arrow(rows)
    assert frame["total"].to_list() == rows.column("total").to_pylist()

    def estimated(part: Any) -> Any:
        return polars.from_arrow(estimate_batch(part.to_arrow(), offline=True))

    lazy = polars.LazyFrame({"id": names}).map_batches(estimated, schema=frame.schema, streamable=True)
    assert lazy.select("model", "total").collect().rows() == frame.select("model", "total").rows()


@pytest.mark.scale
@pytest.mark.filterwarnings("default")  # of Spark's own
def test_spark_calls_it_for_each_part(arrow: Any) -> None:
    sql = pytest.importorskip("pyspark.sql")
    names = ["openai-community/gpt2", "Qwen/Qwen3-8B"] * 4
    whole = estimate_batch(arrow.table({"id": names}), offline=True)
    types = {"string": "string", "int64": "bigint", "bool": "boolean"}
    schema = ", ".join(f"`{field.name}` {types[str(field.type)]}" for field in whole.schema)

    def parts(batches: Any) -> Any:
        for batch in batches:
            yield from estimate_batch(batch, offline=True).to_batches()

    session = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        frame = session.createDataFrame([(name,) for name in names], "id string")
        found = frame.mapInArrow(parts, schema).collect()
    finally:
        session.stop()
    assert sorted(row["total"] for row in found) == sorted(whole.column("total").to_pylist())
