"""The meter in colour: nothing but colours is added, and each part has the colour that it has in pictures."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from hfmem.report.colours import COLOURS
from hfmem.report.fit import LETTERS
from hfmem.report.formats import Style, render
from hfmem.report.paint import painted
from hfmem.scenario.options import Options
from tests.report.test_formats import report

CODE = re.compile(r"\x1b\[[0-9;]*m")
ASKED = {
    "fits": Options(batch=4, gpu=("H100", "RTX 4090")),
    "training": Options(train="full", precision="bf16-master", gpu=("H100",)),
}


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("width", [40, 60, 100])
def test_only_colours_are_added(what: str, width: int) -> None:
    plain = render("table", [report(asked=ASKED[what])], [], Style(width=width, explain=True))
    for depth in ("256", "full"):
        found = painted(plain, depth)  # type: ignore[arg-type]
        assert found != plain
        assert CODE.sub("", found) == plain
        for line in found.splitlines():
            assert line.count("\x1b[0m") * 2 == len(CODE.findall(line)), "no colour runs over the end of a line"
    assert painted(plain, "") == plain


def test_each_letter_is_on_the_colour_of_its_part() -> None:
    plain = render("table", [report(asked=ASKED["training"])], [], Style(width=100))
    found = re.findall(r"\x1b\[(30|97);48;2;(\d+);(\d+);(\d+)m(\S+?)\x1b\[0m", painted(plain, "full"))
    by_letter = {letter: COLOURS[group] for group, letter in LETTERS.items()} | {"!": "#cc3311"}
    seen = set()
    for _, red, green, blue, letters in found:
        assert len(set(letters)) == 1
        assert f"#{int(red):02x}{int(green):02x}{int(blue):02x}" == by_letter[letters[0]]
        seen.add(letters[0])
    meters = "".join(re.findall(r"\[([A-Z.!]{10,})\]", plain))
    assert set(meters) - {"."} | {"!"} <= seen, "the legend has parts of less than a cell too"


def test_names_that_look_like_meters_are_only_coloured() -> None:
    odd = "org/[WWWWWWWWWWWW]"
    found = report(odd, asked=ASKED["fits"])
    plain = render("table", [replace(found, label=odd)], [], Style(width=100))
    assert CODE.sub("", painted(plain, "256")) == plain


def test_a_card_without_a_meter_has_no_colour() -> None:
    plain = render("table", [report()], [], Style(width=100))
    assert painted(plain, "full") == plain
