"""The README is an answer in half a minute; what it shows is held by tests/documents."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_there_are_two_commands() -> None:
    """Those that `.ci/run` runs."""
    commands = re.findall(r"^pip install .* && (.*)$", README, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["hfmem", "pytest"]


def test_it_is_short_and_has_one_picture() -> None:
    assert len(README.splitlines()) <= 150
    assert len(re.findall(r"!\[", README)) == 1


def test_the_first_command_and_its_answer_come_first() -> None:
    before, _, rest = README.partition("pip install .")
    assert len(before.splitlines()) <= 8
    assert "\ntotal " in rest[:1500]


def test_the_pages_that_it_links_are_there() -> None:
    """Those that it does not are in the lists of docs/index.md, or the strict build fails."""
    pages = {path.name for path in (Path(__file__).parents[1] / "docs").glob("*.md")}
    linked = set(re.findall(r"\(docs/([\w.-]+\.md)\)", README))
    assert linked <= pages
    assert linked >= {"index.md", "page.md", "recipes.md", "accuracy.md", "formulas.md", "adding.md"}
