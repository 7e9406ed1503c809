"""Servers that people reported, outside of the tables that estimates were derived from."""

from __future__ import annotations

import pytest

from tests.measured.inference import FIXTURES
from tests.measured.reports import comparisons, document, rows


def test_nine_of_ten_reports_are_right() -> None:
    assert len(comparisons()) >= 20
    assert sum(each.right for each in comparisons()) >= 0.9 * len(comparisons())


@pytest.mark.parametrize("index", range(len(rows())))
def test_a_report_is_right_or_explained(index: int) -> None:
    each = comparisons()[index]
    assert each.outcome != "off", (each.row["url"], each.row["measured"], each.estimated)
    # an explanation of what is right is out of date
    assert (each.outcome == "explained") == ("explained" in each.row)


def test_the_kept_document_is_current() -> None:
    assert (FIXTURES / "reports.md").read_text(encoding="utf-8") == document()
