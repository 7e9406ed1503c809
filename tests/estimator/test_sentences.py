"""Activations of a batch of sentences, against what sentence-transformers had alive when it encoded one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

import hfmem

CASES: Final[dict[str, dict[str, Any]]] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "oracle" / "sentences.json").read_text(encoding="utf-8")
)["cases"]
_TOKEN: Final = 3 * 8
"""Bytes of a token's id, its place in the mask and its segment: inputs, which are no activations."""


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_sentences(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    (tmp_path / "config.json").write_text(json.dumps(case["config"]), encoding="utf-8")
    found = hfmem.estimate(str(tmp_path), batch=case["batch"], seq=case["seq"]).estimate
    assert not found.unknown
    taken = found.group("activations")
    assert taken is not None
    assert 0 <= case["peak"] - taken <= case["batch"] * case["seq"] * _TOKEN
    assert taken == pytest.approx(case["peak"], rel=0.005)
