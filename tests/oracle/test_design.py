"""Fits whose runs do not tell sizes from each other are refused."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy")

from hfmem.probe.design import undetermined

pytestmark = pytest.mark.oracle

RUNS = [
    {"b": 1, "s": 36, "hidden": 48, "heads": 2, "key_dim": 24},
    {"b": 2, "s": 64, "hidden": 24, "heads": 3, "key_dim": 8},
    {"b": 3, "s": 100, "hidden": 64, "heads": 4, "key_dim": 16},
    {"b": 2, "s": 144, "hidden": 160, "heads": 5, "key_dim": 32},
    {"b": 5, "s": 36, "hidden": 96, "heads": 6, "key_dim": 16},
    {"b": 4, "s": 64, "hidden": 64, "heads": 2, "key_dim": 32},
]


def test_sizes_that_change_on_their_own_are_determined() -> None:
    """A tower's width is its heads times their width in all runs: that is no fault of a part of them."""
    assert undetermined(RUNS, RUNS) == []


def test_one_number_of_images_does_not_tell_images() -> None:
    """As of LLaVA's runs, whose operations differed by their images: tensors of `b*b*s` were found."""
    assert undetermined([{**one, "b": 2} for one in RUNS], RUNS) == ["b"]


def test_sizes_that_grow_together_are_not_told_apart() -> None:
    together = [{**one, "s": 12 * one["b"]} for one in RUNS]
    assert {"b", "s"} <= set(undetermined(together, [*RUNS, *together]))


def test_too_few_runs_determine_nothing() -> None:
    assert undetermined(RUNS[:2], RUNS)
