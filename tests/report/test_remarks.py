"""What stands beside an answer: lower bounds, models of which nothing is known, rows of one model."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.command import run
from tests.fetcher.test_hub import CONFIG, ROWS
from tests.hub import Hub, adapter, gguf, single

TWO = {"a-Q4_K_M.gguf": [("a", "F16", (4,))], "a-Q8_0.gguf": [("a", "F16", (8,))]}


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_bare_figure_that_is_a_lower_bound_is_told(hub: Hub, hub_env: dict[str, str]) -> None:
    base = {"base_model_name_or_path": "org/base"}
    hub.put(single("org/a", CONFIG, ROWS), adapter("org/lora", base, [("lora_A.weight", "F32", (8, 4))]))
    process = run("org/a", "org/lora", "--format", "quiet", env=hub_env)
    assert process.returncode == 0
    told = [line for line in process.stderr.splitlines() if "at least" in line]
    assert [line.partition(":")[0] for line in told] == ["org/lora"]
    assert "its base model is also needed" in told[0]
    assert "at least" not in run("org/a", "org/lora", "--format", "csv", env=hub_env).stderr


@pytest.mark.parametrize("name", ["json", "jsonl", "csv", "quiet", "markdown", "table"])
def test_a_model_of_which_nothing_is_known_is_an_error(hub: Hub, hub_env: dict[str, str], name: str) -> None:
    hub.put(gguf("org/g", TWO), single("org/a", CONFIG, ROWS))
    process = run("org/g:Q3_K_M", "org/a", "--format", name, env=hub_env)
    assert process.returncode == 1
    assert process.stderr.count("org/g cannot be determined") == 1
    if name in ("json", "jsonl"):
        lines = [json.loads(line) for line in process.stdout.splitlines()] if name == "jsonl" else []
        document = json.loads(process.stdout) if name == "json" else {"errors": lines[2:], "results": lines[:2]}
        (error,) = document["errors"]
        assert (error["model"], error["error"]) == ("org/g", "no_weights_error")
        assert "The size of org/g cannot be determined" in error["message"]
        assert "name one, as in org/g:Q4_K_M" in error["hint"]
        kept, answered = document["results"]
        assert (kept["model"], kept["memory"]["weights"], answered["model"]) == ("org/g", None, "org/a")
    if name == "csv":
        assert [(row["model"], row["error"]) for row in rows_of(process.stdout)] == [
            ("org/g", "no_weights_error"),
            ("org/a", ""),
        ]


def test_the_models_to_choose_from_are_told(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(gguf("org/g", TWO))
    for output in ("table", "quiet", "json"):
        process = run("org/g:Q3_K_M", "--format", output, env=hub_env)
        assert "It holds 2 models in GGUF files to choose from; name one, as in org/g:Q4_K_M: " in process.stderr
        assert "a-Q8_0.gguf" in process.stderr


@pytest.mark.parametrize(
    ("config", "hint", "dtype_helps"),
    [
        ({"model_type": "a_type_nobody_knows"}, "Add the weights to the folder", False),
        ({**CONFIG, "torch_dtype": None}, "Name its --dtype", True),
    ],
)
def test_a_hint_promises_what_helps(
    alone: dict[str, str], tmp_path: Path, config: dict[str, object], hint: str, *, dtype_helps: bool
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    process = run(str(folder), env=alone)
    assert process.returncode == 1
    assert hint in process.stderr
    assert ("--dtype" in process.stderr) == dtype_helps
    assert run(str(folder), "--dtype", "bfloat16", env=alone).returncode == (0 if dtype_helps else 1)


def test_rows_of_one_model_are_told_apart(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(gguf("org/g", TWO), single("org/a", CONFIG, ROWS))
    asked = ("org/g:Q4_K_M", "org/g:Q8_0", "org/a", "org/a@nowhere", "org/a@main")
    names = ["org/g:Q4_K_M", "org/g:Q8_0", "org/a", "org/a", "org/a@nowhere"]
    shown = {name: run(*asked, "--format", name, env=hub_env).stdout for name in ("quiet", "csv", "table", "json")}
    assert [line.partition("\t")[0] for line in shown["quiet"].splitlines()] == names[:4]
    assert [row["model"] for row in rows_of(shown["csv"])] == names
    assert [line.split()[0] for line in shown["table"].splitlines() if line.startswith("org/")] == names
    document = json.loads(shown["json"])
    assert [(result["model"], result["asked"]) for result in document["results"]] == [
        ("org/g", "org/g:Q4_K_M"),
        ("org/g", "org/g:Q8_0"),
        ("org/a", "org/a"),
        ("org/a", "org/a@main"),
    ]
    assert document["errors"][0]["model"] == "org/a"
    alone_ = run("org/g:Q8_0", "org/a", "--format", "quiet", env=hub_env).stdout
    assert [line.partition("\t")[0] for line in alone_.splitlines()] == ["org/g", "org/a"]


def test_a_failure_is_named_by_what_was_asked(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(single("org/a", CONFIG, ROWS))
    text = run("org/a@v1", "org/a@v2", "--format", "markdown", env=hub_env).stdout
    assert [line.split("|")[1].strip() for line in text.splitlines()[2:]] == ["org/a@v1", "org/a@v2"]
