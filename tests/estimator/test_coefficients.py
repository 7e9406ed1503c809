"""The table of measured coefficients: small, read late, found fast, and what it covers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zlib
from collections import Counter
from importlib.resources import files
from statistics import median
from typing import Any

import pytest

from hfmem.estimator.activations import coefficients

TABLE = files("hfmem.data").joinpath("activations.jsonl")
REPORT = files("hfmem.data").joinpath("activations_report.jsonl")
ROWS: list[dict[str, Any]] = [json.loads(line) for line in REPORT.read_text(encoding="ascii").splitlines()[1:]]


def test_it_is_under_a_megabyte_in_a_wheel() -> None:
    assert len(zlib.compress(TABLE.read_bytes())) < 1_000_000


def test_its_lines_are_to_be_read() -> None:
    """One line a change: no packed bytes, no line beyond what a person scrolls through."""
    lines = TABLE.read_text(encoding="ascii").splitlines()
    assert max(map(len, lines)) < 12_000
    assert median(map(len, lines)) < 600
    assert all(json.loads(line) for line in lines)


def test_its_lines_are_in_order() -> None:
    """By which they are found: types, each with its own lines, then parts."""
    rows = [json.loads(line) for line in TABLE.read_text(encoding="ascii").splitlines()[1:]]
    places = [("part" in row, row.get("type") or row.get("of") or row["part"]) for row in rows]
    assert places == sorted(places)
    assert all('"' not in name and "\\" not in name and len(name) < 200 for _, name in places)


def test_every_line_is_found() -> None:
    rows = [json.loads(line) for line in TABLE.read_text(encoding="ascii").splitlines()[1:]]
    assert all(coefficients._line(row["type"]) == row for row in rows if "type" in row)
    assert all(coefficients._part(row["part"]) == row for row in rows if "part" in row)
    first = next(row["type"] for row in rows if "type" in row)
    assert [row for row in rows if row.get("of") == first] == coefficients._blocks(first)
    assert coefficients._line("") is None
    assert coefficients._line("~") is None
    assert coefficients._line("\ud800") is None
    assert coefficients.structures("\ud800") == frozenset()


def test_a_part_is_called_by_what_is_in_it_and_used() -> None:
    rows = [json.loads(line) for line in TABLE.read_text(encoding="ascii").splitlines()[1:]]
    parts = [row["part"] for row in rows if "part" in row]
    blocks = [row for row in rows if "of" in row]
    used = {name for row in blocks for name in (row["head"], *row["layers"].values(), *row.get("linears", {}).values())}
    used |= {row[name] for row in rows for name in ("encoder", "forward") if name in row}
    assert len(parts) == len(set(parts))
    assert set(parts) == used


def test_it_says_what_it_was_measured_with() -> None:
    assert coefficients.versions().startswith("transformers 5.")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["--list-gpus"]])
def test_runs_that_need_no_coefficients_do_not_read_it(arguments: list[str]) -> None:
    code = (
        "import sys, runpy\n"
        "opened = []\n"
        "sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == 'open' else None)\n"
        f"sys.argv = ['hfmem', *{arguments!r}]\n"
        "try: runpy.run_module('hfmem', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not any('activations' in path for path in opened), opened\n"
        "assert 'hfmem.estimator.activations.coefficients' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_finding_a_type_takes_less_than_ten_milliseconds() -> None:
    """From nothing: the file read, a row unpacked and its polynomials parsed."""
    seconds = []
    for _ in range(7):
        coefficients._table.cache_clear()
        coefficients._row.cache_clear()
        started = time.process_time()
        assert coefficients.find("llama", "sdpa/bf16/prefill") is not None
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.010


def test_what_is_not_there_is_none() -> None:
    assert coefficients.find("of_nobody", "sdpa/bf16/full") is None
    assert coefficients.find("llama", "of/no/mode") is None
    assert coefficients.implementations("of_nobody") == frozenset()
    assert coefficients.implementations("llama") == {"sdpa", "eager", "flash"}


def test_sizes_that_took_no_part_in_the_fit_come_out() -> None:
    told = [row for row in ROWS if row["modes"]]
    assert max(row["residual"] or 0.0 for row in told) < 0.001


def test_a_type_without_coefficients_says_why() -> None:
    assert all(row["missing"] for row in ROWS if not row["modes"])


def test_every_row_of_the_report_with_modes_is_found() -> None:
    for row in ROWS:
        assert bool(coefficients.implementations(row["type"])) == bool(row["modes"]), row["type"]


def test_how_many_types_are_covered() -> None:
    """Types with coefficients, of those that generate text, by what they are for."""
    covered = Counter(row["group"] for row in ROWS if row["modes"] and " " not in row["type"])
    assert covered["causal"] >= 150
    assert covered["image-text"] >= 60
    assert covered["encoder-decoder"] >= 15


def test_structures_are_measured_beside_their_types() -> None:
    assert {"new_decoder_architecture", "parallel_attn"} <= coefficients.structures("falcon")
    assert coefficients.structures("of_nobody") == frozenset()
    types = {row["type"].partition(" ")[0] for row in ROWS if " " in row["type"]}
    assert types <= {row["type"] for row in ROWS}


def test_a_type_takes_seconds() -> None:
    """As the report has it: of the processor, one core. A type that was stopped has no coefficients, and says so."""
    seconds = [row["seconds"] for row in ROWS if row["modes"]]
    assert median(seconds) < 25
    assert max(seconds) <= 60
    stopped = [row for row in ROWS if any(word in str(row["missing"]) for word in ("it took more", "did not end"))]
    assert not any(row["modes"] for row in stopped)
    assert len(stopped) <= 0.03 * len(ROWS)
