"""SGLang's rules against what its servers printed (`fixtures/measured/sglang.jsonl`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median

import pytest

from tests.measured.sglang import Comparison, comparisons, room, rows, table

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
    assert share(of("weights")) >= 0.95
    assert share(of("weights"), 0.009) == 1
    assert median(abs(found.error) for found in of("weights")) <= 0.003


def test_bytes_of_pools() -> None:
    assert share(of("bytes", "windows", "states")) >= 0.95


@pytest.mark.parametrize("kind", ["windows", "states"])
def test_pools_for_windows_and_states(kind: str) -> None:
    assert share(of(kind)) >= 0.9


def test_tokens_from_free_memory() -> None:
    assert share(of("free")) >= 0.9


def test_tokens_from_the_command_line() -> None:
    assert median(abs(found.error) for found in of("line")) <= 0.03
    assert share(of("line"), 0.05) == 1


def test_servers_that_ran_have_room_beside_their_pools() -> None:
    """A step, its graphs and the table of requests are less than what servers left that ran, with shares up to 0.95."""
    found = [each for row in rows() if not row.get("skipped") for each in room(row)]
    assert len({log for log, _, _ in found}) >= 8
    assert [each for each in found if each[1] > each[2]] == []


def test_the_default_fraction() -> None:
    assert share(of("fraction"), 1e-6) == 1


def test_the_table_of_the_documents_is_current() -> None:
    assert table() in DOCS.read_text(encoding="utf-8")
