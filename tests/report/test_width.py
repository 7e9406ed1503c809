"""Reports on terminals of every width: nothing breaks inside a word, and what is left out is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from hfmem.cli import table
from hfmem.hardware.table import accelerators, instances
from hfmem.options.help import Row, common, definitions, panels
from hfmem.report.columns import COLUMNS
from hfmem.report.fit import list_gpus, to_matrix
from hfmem.report.formats import Style, render
from hfmem.report.tables import to_table
from hfmem.report.width import command_lines, fold, items, shortened, widest
from hfmem.scenario.options import Options
from tests.report.test_formats import PROBLEM, report, reports

WIDTHS = [60, 72, 80, 100, 120, 160]
ASKED = {
    "fits": Options(batch=4, seq=4096, gpu=("H100", "RTX 4090", "M2 Max", "3x L4")),
    "does not fit": Options(batch=4, seq=4096, gpu=("RTX 3060",)),
    "a name of many letters": Options(gpu=("RTX PRO 6000 Blackwell Max-Q", "2x L40S")),
    "ranks": Options(batch=4, seq=4096, tp=2, pp=2),
    "a server": Options(seq=4096, runtime="vllm", tp=2, gpu=("L40S",), max_num_seqs=64, block_size=16),
    "training": Options(train="full", stack="megatron", pp=2, dp=2, precision="bf16-master", gpu=("H100",)),
    "adapters": Options(train="lora", gpus=4, zero=3, gpu=("RTX 4090",)),
}


def words(text: str) -> list[str]:
    """What a text says, whatever lines it stands in; a bar is no word, and a shell's backslash is none."""
    return re.sub(r"\[[^\]]{10,40}\]|-{3,}|\\\n", " ", text).split()


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_card_fits_and_no_word_is_broken(what: str, width: int) -> None:
    found = report(asked=ASKED[what])
    text = render("table", [found], [], Style(width=width))
    assert widest(text) <= width
    whole = words(render("table", [found], [], Style(width=None)))
    if "columns left out" not in text:
        assert sorted(words(text)) == sorted(whole)
    else:
        assert set(words(text)) - {"columns", "left", "out:"} <= {*whole, *(f"{word}," for word in whole)}


@pytest.mark.parametrize("width", WIDTHS)
def test_an_explanation_fits(width: int) -> None:
    text = render("table", [report(asked=ASKED["ranks"])], [], Style(width=width, explain=True))
    assert widest(text) <= width


@pytest.mark.parametrize("width", [40, *WIDTHS, 140, 200])
@pytest.mark.parametrize("train", [None, "full"])
def test_columns_that_are_left_out_are_named(width: int, train: str | None) -> None:
    found = [report(asked=Options(train=train, precision="bf16-master" if train else None)), *reports()[1:]]
    lines = to_table(found, [PROBLEM], "GiB", width).splitlines()
    assert widest("\n".join(lines)) <= width
    heading, _, said = "\n".join(lines).partition("columns left out: ")
    assert "total" in heading.splitlines()[0]
    training = ("gradients", "optimizer", "master_weights", "temporary")
    titles = {column.title for column in COLUMNS if train or column.key not in training}
    named = {name.strip() for name in " ".join(said.split()).partition(";")[0].split(",") if name}
    assert {title for title in titles if title in heading.splitlines()[0]} == titles - named
    assert ("--format markdown has all" in " ".join(said.split())) == bool(named)


@pytest.mark.parametrize("width", [34, 40, 60])
def test_the_total_stays_beside_a_name_of_any_length(width: int) -> None:
    long = "an-organisation-of-a-long-name/A-Model-Of-A-Very-Long-Name-Instruct-2512-FP8"
    text = to_table([report(long), report("org/short")], [replace(PROBLEM, model=long)], "GiB", width)
    assert "…" in text
    assert "org/short" in text
    assert "total" in text.splitlines()[0]
    assert widest(text) <= width
    weights = [row for row in text.splitlines() if re.fullmatch(r"\S+ +[\d.]+", row)]
    assert len(weights) == 2


def test_a_column_of_zeros_goes_first() -> None:
    text = to_table([report(asked=Options(train="full"))], [], "GiB", 80)
    assert "KV cache" in text.partition("columns left out: ")[2]


@pytest.mark.parametrize("width", WIDTHS)
def test_accelerators_are_listed_in_the_width(width: int) -> None:
    text = list_gpus(accelerators(), instances(), "GiB", width)
    assert widest(text) <= width
    assert "usable (GiB)" in text
    assert ("columns left out: " in text) == (widest(list_gpus(accelerators(), instances(), "GiB")) > width)


def test_a_disk_that_is_too_small_is_a_column() -> None:
    found = [report("org/large"), report("org/larger")]
    needed = found[0].download.nbytes or 0
    short = to_table(found, [], "GiB", None, free=needed - 1)
    assert "disk" in short.splitlines()[0]
    assert "free)" in short.splitlines()[1]
    assert short.count("too small") == 2
    assert "disk" not in to_table(found, [], "GiB", None, free=needed)
    assert "disk" not in to_table(found, [], "GiB", None)
    assert "disk" in to_table(found, [], "GiB", 60, free=0)


def test_lines_are_folded_between_words() -> None:
    assert fold("- one two three", 9) == "- one two\n  three"
    assert fold("  a  b", 80) == "  a  b"
    assert fold("see data/models/of-a-kind/config.json now", 20) == "see data/models/of-\n  a-kind/config.json\n  now"
    assert fold("2 of 4 × H100", 10) == "2 of\n  4 × H100"
    assert fold("", 10) == ""


def test_commands_go_on_as_a_shell_reads_them() -> None:
    command = "serve org/name --max-model-len 4096 --tensor-parallel-size 2"
    lines = list(command_lines(command, 40))
    assert lines == ["serve org/name --max-model-len 4096 \\", "    --tensor-parallel-size 2"]
    assert list(command_lines(command, None)) == [command]


def test_short_texts_in_rows() -> None:
    assert list(items(["a b", "c d", "e"], 2, 10)) == ["  a b  c d", "  e"]
    assert list(items(["a b", "c d"], 2, None)) == ["  a b  c d"]


def test_names_in_so_many_characters() -> None:
    assert shortened("org/name", 8) == "org/name"
    assert shortened("org/long-name-8B", 10) == "org…ame-8B"


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_matrix_fits_with_names_of_any_length(width: int) -> None:
    long = "an-organisation-of-a-long-name/A-Model-Of-A-Very-Long-Name-Instruct-2512-FP8"
    asked = Options(gpu=("RTX 4090", "RTX PRO 6000 Blackwell Max-Q", "8x H100"))
    text = to_matrix([report(long, asked=asked), report("org/short", asked=asked)], "GiB", width)
    assert widest(text) <= width
    assert "org/short" in text
    assert (long in text) != ("…" in text)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_range_fits(width: int) -> None:
    text = render("table", [report(asked=Options(dtype="int4", gpu=("RTX 3060",)))], [], Style(width=width))
    assert "depending on" in " ".join(text.split())
    assert widest(text) <= width


@pytest.mark.parametrize("width", [58, 78, 98])
@pytest.mark.parametrize("shown", [common, panels])
def test_help_breaks_no_word(shown: Callable[..., list[tuple[str, list[Row]]]], width: int) -> None:
    for _, rows in shown(table()):
        lines = list(definitions(rows, width))
        assert widest("\n".join(lines)) <= width
        words = [word for names, told in rows for word in f"{names} {told}".split()]
        whole = sorted(piece for word in words for piece in re.findall(r"[^|]+\|?", word))
        assert sorted(piece for word in " ".join(lines).split() for piece in re.findall(r"[^|]+\|?", word)) == whole
