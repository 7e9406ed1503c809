"""Every text-generating type of `transformers` against the mapper: a small model is run, and its cache weighed.

Each eighth type by default; `HFMEM_EVERY_TYPE=1` runs them all (a few minutes on two cores).
`fixtures/oracle/types.json` holds the results for all; `python -m tests.oracle.survey` makes it.
"""

from __future__ import annotations

import os

import pytest

pytest.importorskip("torch")

from hfmem.probe import tiny
from tests.oracle import survey

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

RECORDED = {row["type"]: row for row in survey.recorded()}
NAMES = sorted(tiny.generating())
SAMPLE = NAMES if os.environ.get("HFMEM_EVERY_TYPE") else NAMES[::8]


@pytest.mark.parametrize("name", SAMPLE)
def test_cache_and_parameters_are_those_of_the_class(name: str) -> None:
    row = survey.survey(name)
    assert row["runs"] == RECORDED[name]["runs"], row.get("why")
    if not row["runs"]:
        pytest.skip(row["why"])
    for item in (row, *row["perturbed"]):
        assert item["weights"] is not False, item
        assert "probe" not in item, item
        assert "written out" not in item, item
        assert item["cache"] is not False, item


def test_the_record_has_every_type_and_why_one_does_not_run() -> None:
    assert sorted(RECORDED) == NAMES
    assert all(row["runs"] or row["why"] for row in RECORDED.values())
    generating = [
        row for row in RECORDED.values() if row["group"] in ("causal", "image-text") and ":" not in row["type"]
    ]
    assert len(generating) >= 272
    assert sum(row["runs"] for row in generating) >= 200
