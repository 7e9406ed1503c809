"""Public reports of training runs that state their settings: most are right, and the others say why."""

from __future__ import annotations

from collections import Counter

from tests.measured.training_reports import Reported, document, found, rows


def test_every_report_has_a_public_source_and_its_settings() -> None:
    assert len(rows()) >= 25
    assert all(row["url"].startswith("https://") and row["settings"] and row["asked"]["train"] for row in rows())


def test_five_of_six_that_state_their_settings_are_right() -> None:
    counts = Counter(each.outcome for each in found())
    stated = sum(counts.values()) - counts["unstated"]
    assert stated >= 20
    assert counts["right"] >= 0.85 * stated, document()
    assert counts["explained"] <= 0.1 * stated, document()


def test_a_range_is_right_only_where_it_is_narrow_and_holds_the_figure() -> None:
    row = {"reading": "driver", "measured_gib": 10.2}
    assert Reported(row=row, low=9, high=12, outside=0).right
    assert not Reported(row=row, low=9, high=13, outside=0).right
    assert not Reported(row=row, low=10.3, high=12, outside=0).right
    assert Reported(row=row | {"reading": "reserved"}, low=10.3, high=12, outside=0.5).right
    assert not Reported(row=row | {"reading": "allocated"}, low=9.6, high=9.6, outside=0).right
