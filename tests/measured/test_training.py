"""Peaks of training steps on real GPUs: ours beside them, by the rules of `tests.measured.training`."""

from __future__ import annotations

import statistics

import pytest

from tests.measured.training import Comparison, between_steps, compare, rows, table

_ALLOCATED = ("max_memory_allocated", "memory_allocated")


@pytest.fixture(scope="module")
def found() -> list[Comparison]:
    return compare()


def _done(found: list[Comparison], tier: str) -> list[Comparison]:
    return [item for item in found if not item.reason and item.row["tier"] == tier]


def test_every_row_has_its_source() -> None:
    assert len(rows()) > 150
    assert all(str(row["source_url"]).startswith("https://") for row in rows())


def test_most_rows_are_compared_and_the_others_say_why_not(found: list[Comparison]) -> None:
    allocated = [
        item
        for item in found
        if item.row["tier"] == "A"
        and str(item.row["metric"]).startswith(_ALLOCATED)
        and "kernel" not in str(item.row["metric"])
    ]
    assert len(allocated) >= 80
    assert sum(not item.reason for item in allocated) >= 0.7 * len(allocated)
    assert all(item.reason or item.ours for item in found)


def test_tier_a_is_close(found: list[Comparison]) -> None:
    errors = [abs(item.error) for item in _done(found, "A")]
    assert statistics.median(errors) <= 0.01, table(found)
    assert sum(error <= 0.05 for error in errors) >= 0.9 * len(errors), table(found)


def test_what_stays_between_steps_is_close(found: list[Comparison]) -> None:
    errors = between_steps(found)
    assert len(errors) >= 60
    assert statistics.median(errors) <= 0.001
    assert sum(error <= 0.05 for error in errors) >= 0.85 * len(errors)


def test_what_the_driver_shows_is_in_a_narrow_range(found: list[Comparison]) -> None:
    seen = [item for item in found if item.seen and not item.reason]
    assert len(seen) >= 50
    assert all(high - low <= 0.3 * (low + high) / 2 for low, high in (item.reserved for item in seen))
    inside = [item for item in seen if item.reserved[0] <= item.seen <= item.reserved[1]]
    assert len(inside) >= 0.85 * len(seen), [(item.row["id"], item.seen / item.reserved[0]) for item in seen]


@pytest.mark.parametrize("method", ["full", "lora", "qlora", "gptq-lora"])
def test_every_method_is_close(found: list[Comparison], method: str) -> None:
    errors = [abs(item.error) for item in _done(found, "A") if item.row["method"] == method]
    assert statistics.median(errors) <= 0.02, table(found)


def test_tier_b_is_close(found: list[Comparison]) -> None:
    errors = [abs(item.error) for item in _done(found, "B")]
    assert len(errors) >= 13
    assert statistics.median(errors) <= 0.01, table(found)
    assert all(error <= 0.05 for error in errors), table(found)
