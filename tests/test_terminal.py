"""What a person has at hand on a terminal: short switches, defaults of one's own, completion, colours."""

from __future__ import annotations

import json

import pytest

from tests.command import run

LLAMA = "meta-llama/Llama-2-7b-hf"
GPT = "openai-community/gpt2"


@pytest.mark.parametrize(
    ("short", "long"), [("-q", "quiet"), ("--quiet", "quiet"), ("--json", "json")], ids=lambda word: word
)
def test_short_switches_are_those_of_hf(short: str, long: str) -> None:
    asked = (LLAMA, GPT, "--offline")
    assert run(*asked, short).stdout == run(*asked, "--format", long).stdout != ""
    assert run(*asked, short, "--format", long).returncode == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-q", "--json"), "--json cannot be used with -q."),
        (("--json", "--format", "csv"), "--json cannot be used with --format csv."),
        (("-q", "--format", "table"), "-q cannot be used with --format table."),
    ],
)
def test_one_format_at_a_time(words: tuple[str, ...], sentence: str) -> None:
    done = run(LLAMA, *words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == sentence
    assert done.stdout == ""


def test_the_word_of_hf_for_tables() -> None:
    assert run(LLAMA, "--offline", "--format", "human").stdout == run(LLAMA, "--offline").stdout


def test_rows_for_agents_are_whole_and_have_the_figures_of_json() -> None:
    asked = (LLAMA, "nobody/has-this", GPT, "--gpu", "H100", "--offline")
    done = run(*asked, "--format", "agent")
    assert done.returncode == 1
    heading, *lines = (line.split("\t") for line in done.stdout.splitlines())
    rows = [dict(zip(heading, line, strict=True)) for line in lines]
    results = json.loads(run(*asked, "--json").stdout)["results"]
    for row, result in zip([row for row in rows if not row["error"]], results, strict=True):
        assert row["model"] == result["model"]
        assert int(row["total"]) == result["memory"]["total"]
        assert row["verdict: H100 80GB"] == result["fit"][0]["verdict"]
    assert [row["error"] for row in rows if row["error"]] == ["offline_error"]
    assert "gradients" not in heading
