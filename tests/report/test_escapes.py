"""Names that are made to do harm, in every format; and the columns of accelerators in each."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from hfmem.errors import ModelNotFoundError
from hfmem.report.errors import explain
from hfmem.report.escapes import csv_cell, json_text, markdown_cell, visible
from hfmem.report.formats import FORMATS, Style, render
from hfmem.scenario.options import Options
from tests.report.test_formats import report

HOSTILE = "org/\x1b[31m\x07red\x7f\x9b\u202e\u200b\ufeff\ud800\n|`=evil"
UNSEEN = ("\x1b", "\x07", "\x7f", "\x9b", "\u202e", "\u200b", "\ufeff", "\ud800")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("several", [False, True])
def test_no_format_lets_unseen_characters_through(name: str, several: bool) -> None:
    found = [report(HOSTILE, model_type=HOSTILE), report()]
    text = render(name, found, [explain(ModelNotFoundError(HOSTILE))], Style(several=several, width=100, explain=True))
    assert [character for character in UNSEEN if character in text] == []
    text.encode("utf-8")


@pytest.mark.parametrize("name", ["json", "jsonl"])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_json_reads_back_whatever_names_hold(name: str, ascii_only: bool) -> None:
    problem = explain(ModelNotFoundError(HOSTILE))
    text = render(name, [report(HOSTILE, model_type=HOSTILE)], [problem], Style(ascii=ascii_only))
    assert "\\x" not in text
    assert text.isascii() or not ascii_only
    results = json.loads(text)["results"] if name == "json" else [json.loads(text.splitlines()[0])]
    assert results[0]["model"] == HOSTILE
    assert results[0]["architecture"]["model_type"] == HOSTILE


def test_every_character_of_json_reads_back() -> None:
    for start in range(0, 0x11000, 0x100):
        text = "".join(map(chr, range(start, start + 0x100)))
        assert json.loads(json_text({"a": text})) == {"a": text}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum(a1)", "\t=1", "\n=1", "\uff1d1"])
def test_no_cell_of_csv_is_a_formula(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    (row,) = list(csv.DictReader(io.StringIO(render("csv", [report(text)], [], Style()))))
    assert row["model"] == f"'{text}"


def test_numbers_of_csv_stay_numbers() -> None:
    assert (csv_cell(-5), csv_cell(None), csv_cell("a\rb")) == (-5, "", "a\\rb")


def test_a_cell_of_csv_may_hold_a_line_break_and_a_quote() -> None:
    name = 'a "b",\nc'
    (row,) = list(csv.DictReader(io.StringIO(render("csv", [report(name)], [], Style()))))
    assert row["model"] == name


def test_markdown_keeps_its_rows_and_cells() -> None:
    assert markdown_cell("a|b`c`<img>") == "a\\|b\\`c\\`\\<img\\>"
    text = render("markdown", [report("org/a|b\nc"), report()], [], Style())
    assert len(text.splitlines()) == 4
    assert {line.replace("\\|", "").count("|") for line in text.splitlines()} == {text.splitlines()[1].count("|")}


def test_tables_and_quiet_keep_their_rows() -> None:
    found = [report("org/a\nb\tc"), report()]
    assert len(render("table", found, [], Style(several=True)).splitlines()) == 5
    assert [len(line.split("\t")) for line in render("quiet", found, [], Style()).splitlines()] == [2, 2]


def test_what_cannot_be_seen_is_named() -> None:
    assert visible("a\x1b\u200b\U000e0041b") == "a\\x1b\\u200b\\U000e0041b"
    assert visible("a\tb\nc é ×") == "a\tb\nc é ×"


ASKED = Options(batch=4, seq=4096, gpu=("H100", "8x H100", "T4"))


def test_csv_has_what_fits_on_each_accelerator() -> None:
    text = render("csv", [report(asked=ASKED)], [explain(ModelNotFoundError("org/none"))], Style(several=True))
    row, failed = list(csv.DictReader(io.StringIO(text)))
    fits = {fit.gpu.name: fit for fit in report(asked=ASKED).fits if fit.parallel.gpus == 1}
    assert (row["fits: H100 80GB"], row["fits: 8 x H100 80GB"], row["fits: T4"]) == ("true", "true", "false")
    assert int(row["headroom: T4"]) == fits["T4"].headroom < 0
    assert int(row["headroom: H100 80GB"]) == fits["H100 80GB"].headroom
    assert list(row)[-1] == "error"
    assert failed["error"] == "model_not_found_error"
    assert failed["fits: T4"] == ""


def test_csv_leaves_open_what_is_not_known() -> None:
    (row,) = csv.DictReader(io.StringIO(render("csv", [report(asked=ASKED, model_type="nobody")], [], Style())))
    assert row["fits: H100 80GB"] == ""
    assert row["fits: T4"] in ("", "false")


def test_a_refused_split_does_not_fit() -> None:
    found = report(asked=Options(gpu=("H100",)))
    (fit,) = found.fits
    found = replace(found, fits=(replace(fit, estimate=None, fits=None, refused="it cannot be split so"),))
    (row,) = csv.DictReader(io.StringIO(render("csv", [found], [], Style())))
    assert (row["fits: H100 80GB"], row["headroom: H100 80GB"]) == ("false", "")
    assert render("quiet", [found], [], Style()).endswith("\trefused")
    assert "refused" in render("markdown", [found], [], Style())


def test_markdown_has_a_column_an_accelerator() -> None:
    head, _, row = render("markdown", [report(asked=ASKED)], [], Style()).splitlines()
    assert "T4, free (GiB)" in head
    assert "8 x H100 80GB, free (GiB)" in head
    assert "no, " in row
    assert "fits, " in row


def test_quiet_has_a_word_an_accelerator() -> None:
    total = report(asked=ASKED).estimate.total
    assert render("quiet", [report(asked=ASKED)], [], Style()) == f"org/llama\t{total}\tfits\tfits\tno"
    assert render("quiet", [report()], [], Style()).count("\t") == 1
