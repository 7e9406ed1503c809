"""Small pipelines are written and loaded again as recorded, and the catalog's tensors are those of the real classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.oracle.pipelines import FIXTURES, PIPELINES, record

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("diffusers")

CATALOG = Path(__file__).parents[2] / "hfmem" / "data" / "pipelines.jsonl"


@pytest.mark.parametrize("name", PIPELINES)
def test_what_is_recorded(name: str) -> None:
    found = record(name)
    recorded = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    assert found["parameters"] == recorded["parameters"]
    assert found["loaded"] == recorded["loaded"]
    assert found["files"].keys() == recorded["files"].keys()


def test_components_of_the_catalog() -> None:
    """From the configs in the catalog itself."""
    from hfmem.fetcher.patterns import expand
    from hfmem.probe.pipelines.__main__ import rows
    from hfmem.probe.pipelines.models import Part

    lines = [json.loads(line) for line in CATALOG.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if "component" in line:
            part = Part(library=line["library"], cls=line["class"], config=line["config"])
            kept = {name: shape for name, _, shape in expand((n, "", tuple(s)) for n, s in line["tensors"])}
            assert dict(rows(part, line["config"])) == kept, line["component"]
