"""What estimates of llama.cpp are held to, over the buffers of `fixtures/measured/llamacpp.jsonl`."""

from __future__ import annotations

import pytest

from hfmem.engines.llamacpp.releases import RELEASES
from tests.measured import llamacpp_peers
from tests.measured.llamacpp import PAGE, WITHIN, Reading, page, readings, rows


def stated(kind: str) -> list[Reading]:
    found = [reading for reading in readings() if reading.kind == kind and reading.stated]
    assert found
    return found


@pytest.mark.parametrize("kind", ["model", "kv", "states"])
def test_weights_caches_and_states_are_those_of_every_log(kind: str) -> None:
    assert [reading for reading in stated(kind) if not reading.close] == []


def test_compute_buffers() -> None:
    found = stated("compute")
    assert sum(reading.close for reading in found) >= 0.9 * len(found)


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


def test_the_page_has_the_table_of_other_tools() -> None:
    assert PAGE.read_text(encoding="utf-8") == llamacpp_peers.page()


@pytest.mark.parametrize("each", llamacpp_peers.answers(), ids=lambda each: each.row["model"])
def test_no_other_tool_is_nearer(each: llamacpp_peers.Answers) -> None:
    ours = abs(each.ours - each.truth)
    assert ours < 1e-4
    assert all(ours < abs(theirs - each.truth) for theirs in (each.parser, each.hf_mem) if theirs is not None)
