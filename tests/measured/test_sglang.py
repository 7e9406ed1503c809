"""SGLang's rules against what its servers printed (`fixtures/measured/sglang.jsonl`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median

import pytest

from tests.measured.sglang import Comparison, comparisons, rows, table

DOCS = Path(__file__).parents[2] / "docs" / "sglang.md"


def of(*kinds: str) -> list[Comparison]:
    return [found for found in comparisons() if found.kind in kinds]


def share(found: Iterable[Comparison], within: float = 0.01) -> float:
    errors = [abs(each.error) for each in found]
    return sum(error <= within for error in errors) / len(errors)


def test_every_reading_has_a_source_and_is_compared_or_says_why_not() -> None:
    compared = {found.row["id"] for found in comparisons()}
    for row in rows():
        assert row["source"]
        assert (row["id"] in compared) != bool(row.get("skipped")), row["id"]


def test_weights() -> None:
    assert share(of("weights"), 0.011) == 1
    assert median(abs(found.error) for found in of("weights")) <= 0.006


def test_bytes_of_pools() -> None:
    assert share(of("bytes", "windows", "states")) >= 0.95


@pytest.mark.parametrize("kind", ["windows", "states"])
def test_pools_for_windows_and_states(kind: str) -> None:
    assert share(of(kind)) >= 0.9


def test_tokens_from_free_memory() -> None:
    assert share(of("free")) >= 0.9


def test_tokens_from_the_command_line() -> None:
    assert median(abs(found.error) for found in of("line")) <= 0.03


def test_the_default_fraction() -> None:
    assert share(of("fraction"), 1e-6) == 1


def test_the_table_of_the_documents_is_current() -> None:
    assert table() in DOCS.read_text(encoding="utf-8")
