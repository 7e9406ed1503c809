"""PEFT itself, of what it trains: the record is what the installed one says."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from tests.oracle.peft_methods import FIXTURE, METHODS, counted
from tests.oracle.step_cases import config_of

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

RECORD = json.loads(FIXTURE.read_text(encoding="utf-8"))
MODELS = ("Qwen/Qwen3-8B", "google/gemma-2-2b", "openai-community/gpt2", "google-bert/bert-base-uncased")


@pytest.mark.parametrize("method", list(METHODS))
def test_the_record_is_what_peft_counts(method: str) -> None:
    if version("peft") != RECORD["versions"]["peft"]:
        pytest.skip("another release of PEFT")
    rows = [row for row in RECORD["rows"] if row["method"] == method and row["model"] in MODELS]
    for row in rows:
        found = counted(config_of(row["model"]), method)
        assert found == {key: row[key] for key in found}
    assert len(rows) == len(MODELS)
