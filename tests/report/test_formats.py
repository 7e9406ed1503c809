"""One call in every format, held against kept output: columns sum to the printed total, widths are kept.

`HFMEM_UPDATE_GOLDEN=1 pytest tests/report` writes the kept output anew; read the difference before committing it.
"""

from __future__ import annotations

import csv
import io
import json
import os
from functools import cache
from pathlib import Path

import pytest

from hfmem.api import report_on
from hfmem.errors import GatedModelError
from hfmem.estimator.values import GROUPS
from hfmem.fetcher.values import Checkpoint, FileInfo, ModelRef
from hfmem.mapper.interpret import interpret
from hfmem.report.columns import SORT_KEYS, sorted_reports
from hfmem.report.errors import explain
from hfmem.report.formats import FORMATS, Style, render
from hfmem.report.result import to_result
from hfmem.report.values import Report
from hfmem.scenario.options import Options
from tests.estimator.test_inference import LLAMA_2_7B

GOLDEN = Path(__file__).parent / "golden"
PROBLEM = explain(GatedModelError("org/gated"))


def report(name: str = "org/llama", asked: Options | None = None, **changes: object) -> Report:
    config = LLAMA_2_7B | changes
    weights = (FileInfo(name="model.safetensors", size=13_476_831_232),)
    found = Checkpoint(
        ref=ModelRef(model_id=name),
        commit="0123456789abcdef0123456789abcdef01234567",
        source="hub",
        provenance="huggingface.co",
        config=config,
        files=(*weights, FileInfo(name="config.json", size=700)),
        weight_files=weights,
    )
    return report_on(interpret(found), asked or Options(batch=4, seq=4096))


@cache
def reports() -> list[Report]:
    """Of a known model, of one of which little is known, and of one with few heads in its cache."""
    return [
        report(),
        report("org/unknown", model_type="a_type_nobody_knows"),
        report("org/grouped", num_key_value_heads=8),
    ]


def hold(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("HFMEM_UPDATE_GOLDEN"):
        path.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "json"])
def test_several_models(name: str) -> None:
    hold(f"several-{name}", render(name, reports(), [PROBLEM], Style(several=True, width=100)))


@pytest.mark.parametrize("name", FORMATS)
def test_one_model(name: str) -> None:
    text = render(name, reports()[:1], [], Style(width=100))
    if name in ("json", "jsonl"):
        assert json.loads(text)
    else:
        hold(f"one-{name}", text)


def test_explanation() -> None:
    hold("one-explained", render("table", reports()[:1], [], Style(width=100, explain=True)))


def test_textbook_training() -> None:
    asked = Options(batch=1, seq=512, method="textbook", train="full", optimizer="adam")
    hold("one-textbook", render("table", [report(asked=asked)], [], Style(width=100, unit="GB")))


def test_training() -> None:
    asked = Options(batch=2, seq=512, train="lora", lora_rank=16, gradient_checkpointing=True)
    hold("one-lora", render("table", [report(asked=asked)], [], Style(width=100)))


def test_training_on_several_gpus() -> None:
    asked = Options(batch=1, seq=512, train="full", stack="megatron", pp=2, dp=2, zero=1)
    hold("one-pipeline", render("table", [report(asked=asked)], [], Style(width=100, explain=True)))


def test_training_as_json() -> None:
    asked = Options(batch=2, seq=512, train="full", fsdp=True, gpus=4)
    result = json.loads(render("json", [report(asked=asked)], [], Style()))["results"][0]
    phases = {phase["name"]: phase for phase in result["phases"]}
    peak = phases[result["peak_phase"]]
    assert result["memory"]["total"] == peak["total"] == max(phase["total"] for phase in phases.values())
    assert {name: peak[name] for name in result["memory"]} == result["memory"]
    assert sum(term["bytes"] for term in result["terms"]) == result["memory"]["total"]
    assert result["per_gpu"] == [{"ranks": [0, 1, 2, 3], "count": 4, **result["memory"]}]
    assert result["memory_all_gpus"]["total"] == 4 * result["memory"]["total"]
    assert result["training"]["allocated"] < result["memory"]["total"]
    assert result["scenario"]["dp"] == 4
    assert result["scenario"]["mode"] == "training"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 140])
def test_tables_fit_the_terminal(width: int) -> None:
    lines = render("table", reports(), [PROBLEM], Style(several=True, width=width)).splitlines()
    assert max(map(len, lines)) <= max(width, 40)
    card = render("table", reports()[:1], [], Style(width=width)).splitlines()
    assert any("12.55 GiB" in line for line in card)
    assert any("8.00 GiB" in line for line in card)


def test_the_contract_of_json() -> None:
    document = json.loads(render("json", reports(), [PROBLEM], Style(several=True)))
    assert list(document) == ["schema", "hfmem", "results", "errors"]
    assert document["schema"] == 1
    assert document["errors"] == [PROBLEM.as_dict()]
    assert set(PROBLEM.as_dict()) == {"model", "error", "message", "hint"}
    for result in document["results"]:
        assert result.keys() >= {
            "model", "revision", "commit", "source", "architecture", "parameters", "scenario", "memory",
            "total_is_lower_bound", "phases", "peak_phase", "per_gpu", "memory_all_gpus", "kv_cache_per_token",
            "kv_cache_fixed", "download", "serving", "terms", "fit", "notes",
        }  # fmt: skip
        assert set(result["memory"]) == {*GROUPS, "total"}
        known = [nbytes for group, nbytes in result["memory"].items() if group != "total" and nbytes is not None]
        assert result["memory"]["total"] == sum(known) == sum(term["bytes"] for term in result["terms"])
        assert set(result["terms"][0]) == {"name", "group", "phase", "bytes", "how", "source", "certainty"}
        assert sum(result["parameters"]["by_component"].values()) == (result["parameters"]["total"] or 0)


def test_json_and_table_say_the_same() -> None:
    result = to_result(reports()[0])
    assert result["memory"]["kv_cache"] == 8_589_934_592
    assert result["architecture"]["layer_kinds"] == {"full_attention": 32}
    assert result["download"] == {"bytes": 13_476_831_932, "files": 2}


def test_csv_is_in_bytes_and_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(render("csv", reports(), [PROBLEM], Style(several=True)))))
    assert [row["model"] for row in rows] == ["org/llama", "org/unknown", "org/grouped", "org/gated"]
    assert rows[0]["kv_cache"] == "8589934592"
    assert rows[1]["kv_cache"] == ""
    assert rows[1]["total_is_lower_bound"] == "true"
    assert rows[3]["error"] == "gated_model_error"


@pytest.mark.parametrize("key", SORT_KEYS)
def test_sorting_puts_unknown_figures_last(key: str) -> None:
    ordered = sorted_reports(reports(), key)
    assert sorted(map(id, ordered)) == sorted(map(id, reports()))
    if key in ("kv_cache", "parameters"):
        assert ordered[-1].checkpoint.ref.model_id == "org/unknown"


def test_a_gigabyte_is_no_gibibyte() -> None:
    assert "13.48 GB" in render("table", reports()[:1], [], Style(unit="GB", width=100))


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("fit", Options(batch=4, seq=4096, gpu=("H100", "RTX 4090", "M2 Max", "3x L4"))),
        ("misfit", Options(batch=4, seq=4096, gpu=("RTX 3060",))),
        ("ranks", Options(batch=4, seq=4096, tp=2, pp=2)),
        ("server", Options(seq=4096, runtime="vllm", tp=2, gpu=("L40S",))),
        ("crowded-server", Options(seq=4096, runtime="vllm", gpu=("T4",))),
    ],
)
def test_cards_of_accelerators(name: str, asked: Options) -> None:
    hold(f"card-{name}", render("table", [report(asked=asked)], [], Style(width=100)))


def test_the_matrix() -> None:
    asked = Options(batch=4, seq=4096, gpu=("H100", "RTX 4090", "T4"))
    found = [report(asked=asked), report("org/unknown", asked, model_type="nobody_knows")]
    hold("matrix", render("table", found, [PROBLEM], Style(several=True, width=100)))


@pytest.mark.parametrize("card", ["H100", "RTX 4090", "T4", "RTX 2060", "B200"])
def test_a_bar_is_as_long_whatever_it_holds(card: str) -> None:
    text = render("table", [report(asked=Options(gpu=(card,)))], [], Style(width=100))
    (bar,) = [line for line in text.splitlines() if line.startswith(card)]
    assert bar.index("]") - bar.index("[") == 41


def test_columns_of_training_sum_to_the_total() -> None:
    found = [report(asked=Options(train="full", dp=8, zero=2, precision="bf16-master"))]
    row = next(csv.DictReader(io.StringIO(render("csv", found, [], Style()))))
    parts = ("weights", "kv_cache", "activations", "overhead", "gradients", "optimizer", "master_weights", "temporary")
    assert sum(int(row[name]) for name in parts) == int(row["total"])
    assert int(row["master_weights"]) > 0
    assert "master weights (GiB)" in render("markdown", found, [], Style())
