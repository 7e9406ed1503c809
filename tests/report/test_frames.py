"""Comparisons as rows and data frames, and what notebooks show of answers."""

from __future__ import annotations

import csv
import importlib
import io
import json
import sys
from functools import cache
from typing import Any

import pytest

import hfmem
from hfmem.report.comparisons import Comparison
from hfmem.report.formats import Style, render
from hfmem.report.result import to_result
from tests.report.test_html import Reader

IDS = ["Qwen/Qwen3-8B", "nobody/has-this", "openai-community/gpt2", "Qwen/Qwen3-30B-A3B"]


@cache
def compared() -> Comparison:
    return hfmem.compare(IDS, gpu=("H100", "2x RTX 4090"), offline=True)


def test_a_comparison_is_a_tuple_in_the_order_that_was_asked() -> None:
    found = compared()
    assert isinstance(found, tuple)
    assert [each.name if isinstance(each, hfmem.Report) else each.model for each in found] == IDS
    assert len(found.reports) == 3
    assert [type(error).__name__ for error in found.failures] == ["OfflineError"]
    assert repr(found) == (
        "<Comparison of 'Qwen/Qwen3-8B', 'nobody/has-this', 'openai-community/gpt2' and 1 more: 1 failed>"
    )


def test_a_row_is_flat_and_an_error_is_a_column() -> None:
    rows = compared().to_dicts()
    assert [row["model"] for row in rows] == IDS
    assert len({tuple(row) for row in rows}) == 1
    for row, answer in zip(rows, compared(), strict=True):
        assert all(value is None or isinstance(value, (str, int, bool)) for value in row.values())
        if isinstance(answer, hfmem.HfmemError):
            assert (row["error"], row["total"], row["fits: H100 80GB"]) == ("offline_error", None, None)
            assert "nobody/has-this" in row["message"]
        else:
            assert (row["error"], row["total"]) == (None, answer.estimate.total)


def test_columns_that_csv_has_too_have_the_same_figures() -> None:
    text = render("csv", compared().reports, [], Style())
    for line, row in zip(
        csv.DictReader(io.StringIO(text)), [row for row in compared().to_dicts() if not row["error"]], strict=True
    ):
        shared = line.keys() & row.keys()
        assert shared >= {
            "model",
            "weights",
            "kv_cache",
            "total",
            "download",
            "fits: 2 x RTX 4090",
            "verdict: H100 80GB",
        }
        for name in shared - {"error"}:
            value = row[name]
            written = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
            assert line[name] == written, name


def test_a_report_as_a_dictionary_is_that_of_json() -> None:
    (report, *_) = compared().reports
    assert report.to_dict() == to_result(report)
    assert json.loads(json.dumps(report.to_dict()))["memory"]["total"] == report.estimate.total


def test_notebooks_show_answers_small_and_without_scripts() -> None:
    (report, *_) = compared().reports
    shown: list[Any] = [report, report.fits, report.fits[0], compared()]
    for each in shown:
        html = each._repr_html_()
        read = Reader(html)
        assert "script" not in {tag for tag, _ in read.tags}
        assert len(html) < 12_000
        assert "H100 80GB" in read.words
    assert "nobody/has-this" in compared()._repr_html_()
    assert "fits_fragment" not in repr(report.fits)
    assert report.fits == tuple(report.fits)


@pytest.mark.parametrize(
    ("method", "package"), [("to_pandas", "pandas"), ("to_polars", "polars"), ("to_arrow", "pyarrow")]
)
def test_a_missing_package_is_a_sentence(method: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install {package}") as raised:
        getattr(compared(), method)()
    assert raised.value.__cause__ is None


@pytest.mark.extras
@pytest.mark.parametrize(
    ("method", "package", "read"),
    [
        ("to_pandas", "pandas", lambda frame: frame.astype(object).where(frame.notna(), None).to_dict("records")),
        ("to_polars", "polars", lambda frame: frame.to_dicts()),
        ("to_arrow", "pyarrow", lambda frame: frame.to_pylist()),
    ],
)
def test_frames_have_the_rows(method: str, package: str, read: Any) -> None:
    pytest.importorskip(package)
    assert read(getattr(compared(), method)()) == compared().to_dicts()


@pytest.mark.extras
def test_frames_have_types_also_where_all_failed() -> None:
    failed = hfmem.compare(["nobody/has-this"], offline=True)
    frame = failed.to_pandas()
    assert dict(frame.dtypes.astype(str))["total"] == "Int64"
    assert str(failed.to_polars().schema["total"]) == "Int64"
    assert str(failed.to_arrow().schema.field("total").type) == "int64"
    assert len(frame) == 1
    large = compared().to_pandas()
    assert large["total"].dtype == "Int64"
    assert importlib.import_module("pandas").isna(large["error"]).sum() == 3
