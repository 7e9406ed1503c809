"""sentence-transformers itself, run again beside what was recorded."""

from __future__ import annotations

import json

import pytest

from tests.oracle.sentences import CASES, FIXTURE, measured

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("name", CASES)
def test_a_batch_takes_what_was_recorded(name: str) -> None:
    pytest.importorskip("sentence_transformers")
    assert measured(CASES[name]) == json.loads(FIXTURE.read_text(encoding="utf-8"))["cases"][name]["peak"]
