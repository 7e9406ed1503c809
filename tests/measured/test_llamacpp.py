"""What estimates of llama.cpp are held to, over the buffers of `fixtures/measured/llamacpp.jsonl`."""

from __future__ import annotations

import pytest

from hfmem.engines.llamacpp.releases import RELEASES
from tests.measured.llamacpp import PAGE, WITHIN, Reading, page, readings, rows


def stated(kind: str) -> list[Reading]:
    found = [reading for reading in readings() if reading.kind == kind and reading.stated]
    assert found
    return found


@pytest.mark.parametrize("kind", ["model", "kv", "states"])
def test_weights_caches_and_states_are_those_of_every_log(kind: str) -> None:
    assert [reading for reading in stated(kind) if not reading.close] == []


def test_compute_buffers_of_recorded_architectures() -> None:
    known = [reading for reading in stated("compute") if reading.estimated is not None]
    assert sum(reading.close for reading in known) >= 0.9 * len(known)
    assert len(known) >= 0.8 * len(stated("compute"))


def test_what_is_off_has_its_reason() -> None:
    assert [reading for reading in readings() if not reading.close and not reading.reason] == []


def test_every_log_has_its_address_and_is_compared_or_says_why_not() -> None:
    assert len(rows()) == 34
    for row in rows():
        assert row["source_url"].startswith("https://")
        assert ("file" in row) != ("skipped" in row)


def test_most_compute_buffers_are_equal() -> None:
    """Not only close: a rule that is missing would show."""
    known = [reading for reading in stated("compute") if reading.estimated is not None]
    equal = [each for each in known if abs((each.estimated or 0) - each.measured) < 0.011]
    assert len(equal) >= 0.9 * len(known)
    assert WITHIN["compute"] == 0.1


def test_the_page_has_the_table_of_the_command() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_page_has_every_release() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for release in RELEASES:
        assert f"| {release.name} | {release.changed} |" in text
