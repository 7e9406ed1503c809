"""Reports as HTML: well-formed, without scripts or anything from elsewhere, with all names escaped, and with the same
figures as the other formats."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from hfmem.estimator.values import GROUPS
from hfmem.report.colours import COLOURS
from hfmem.report.html.bars import bar, parts
from hfmem.report.html.fragments import fits_fragment, fragment, summary
from hfmem.report.html.lists import comparison
from hfmem.report.html.page import page
from hfmem.report.sentences import sentence
from hfmem.scenario.options import Options
from tests.report.test_formats import PROBLEM, report, reports

HOSTILE = "org/<script>alert(1)</script>\"'&\x1b[31m"
SEVERAL_CARDS = Options(batch=4, seq=4096, gpu=("H100", "RTX 3060", "24GB"))
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Reader(HTMLParser):
    """Elements, attributes and text of a document; it fails where elements are not closed in order."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words += data


ASKED = {
    "plain": Options(batch=4, seq=4096),
    "cards": SEVERAL_CARDS,
    "server": Options(seq=4096, runtime="vllm", tp=2, gpu=("L40S",)),
    "training": Options(train="full", gpu=("H100",)),
    "textbook": Options(method="textbook"),
}


@pytest.mark.parametrize("what", ASKED)
def test_a_page_is_whole_and_needs_nothing_else(what: str) -> None:
    text = page([report(asked=ASKED[what])])
    read = Reader(text)
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object", "img"}
    for tag, attributes in read.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), tag
            assert "//" not in (value or ""), (tag, name)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_names_are_escaped_everywhere() -> None:
    shown = report(HOSTILE, SEVERAL_CARDS)
    for text in (page([shown]), page([shown, shown], [PROBLEM]), summary(shown), comparison([shown]), fragment(shown)):
        assert "<script" not in text
        assert "\x1b" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;\\x1b[31m" in text
        Reader(text)


@pytest.mark.parametrize("what", ASKED)
def test_the_parts_of_a_bar_sum_to_the_total(what: str) -> None:
    estimate = report(asked=ASKED[what]).estimate
    assert sum(nbytes for _, nbytes in parts(estimate)) == estimate.total
    drawn = Reader(bar(parts(estimate), "GiB"))
    widths = {a["fill"]: float(a["width"] or 0) for tag, a in drawn.tags if tag == "rect"}
    for group, nbytes in parts(estimate):
        assert widths[COLOURS[group]] == pytest.approx(1000 * nbytes / estimate.total, abs=0.01)


def test_a_bar_shows_where_the_memory_ends() -> None:
    h100, rtx, _ = report(asked=SEVERAL_CARDS).fits
    assert h100.estimate is not None
    assert rtx.estimate is not None
    assert "ends at" not in bar(parts(h100.estimate), "GiB", h100.usable)
    text = bar(parts(rtx.estimate), "GiB", rtx.usable)
    assert "ends at 11.76 GiB" in text
    (x,) = re.findall(r'<rect x="([\d.]+)" y="16"', text)
    assert float(x) == pytest.approx(1000 * rtx.usable / rtx.estimate.total, abs=0.01)


def test_sentences_say_what_decides() -> None:
    h100, rtx, budget = report(asked=SEVERAL_CARDS).fits
    free = (h100.headroom or 0) / 2**30
    assert sentence(h100, "GiB") == (
        f"Fits on H100 80GB: {free:.2f} GiB free, longest context {h100.max_seq:,}, largest batch {h100.max_batch}."
    )
    assert sentence(rtx, "GiB").startswith("Does not fit on RTX 3060: 10.78 GiB missing, ")
    assert sentence(rtx, "GiB").endswith(f"needs {rtx.gpus_needed}.")
    assert sentence(budget, "GiB").startswith(("Fits on 24", "Fits, but tight, on 24"))


def test_a_refusal_and_an_unknown_size_have_their_reason() -> None:
    (refused,) = report(asked=Options(runtime="vllm", seq=8192, gpu=("H100",))).fits
    assert sentence(refused, "GiB") == f"Refused on H100 80GB: {refused.refused}."
    shown = report("org/unknown", SEVERAL_CARDS, model_type="nobody_knows")
    (first, *_) = shown.fits
    assert sentence(first, "GiB").startswith("The fit is unknown on H100 80GB: at most ")
    assert "at least" in fragment(shown) or "≥" in fragment(shown)


def test_every_term_and_every_group_has_its_figure() -> None:
    shown = report(asked=ASKED["training"])
    words = Reader(fragment(shown)).words
    for term in shown.estimate.terms:
        assert term.name in words
        assert " ".join(term.how.split()) in words
        assert term.source in words
    assert f"{shown.estimate.total / 2**30:.2f} GiB" in words
    for phase in shown.estimate.phases:
        assert phase.name in words


def test_several_reports_beside_each_other() -> None:
    text = page(reports(), [PROBLEM])
    words = Reader(text).words
    for shown in reports():
        assert shown.name in words
    assert PROBLEM.message in words
    assert text.count("<style>") == 1
    assert "GiB" in comparison(reports(), [PROBLEM])


def test_fragments_carry_their_style_unless_told_otherwise() -> None:
    shown = report(asked=SEVERAL_CARDS)
    assert "<style>" in fragment(shown)
    assert "<style>" not in fragment(shown, style=False)
    assert "org/llama" not in fragment(shown, title=False).partition("Notes")[0]
    assert "arithmetic" not in fragment(shown, terms=False)
    assert Reader(fits_fragment(shown.fits)).words.count("GiB usable") == 3


def test_every_group_has_a_colour_of_its_own() -> None:
    assert set(COLOURS) == set(GROUPS)
    assert len(set(COLOURS.values())) == len(GROUPS)
