"""Base and adapter, as PEFT counts and loads them; the plain test is on what was recorded of the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.oracle
pytest.importorskip("torch")
pytest.importorskip("peft")

from tests.oracle import pairs  # noqa: E402 - it imports PEFT


@pytest.mark.parametrize("name", pairs.pairs())
@pytest.mark.filterwarnings("ignore")
def test_parameters_and_bytes_are_those_of_peft(name: str, tmp_path: Path) -> None:
    found = pairs.measure(name, tmp_path)
    assert found == json.loads(pairs.FIXTURE.read_text())["pairs"][name]
    assert pairs.told(tmp_path) == found
