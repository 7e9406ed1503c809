"""README.md and docs/ say what the program does: their commands are run, their outputs and tables are made again."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.command import run
from tests.documents.pages import ROOT, Example, examples, listed, pages, place, printed, process, shelf
from tests.documents.pieces import MARKED, PIECES
from tests.documents.terminal import PICTURE, picture, seen

PAGES = pages()
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
SHOWN = [example for page in PAGES for example in examples(page)]
LISTED = [(page.name, command) for page in PAGES for command in listed(page) if command.startswith("hfmem ")]
MADE = [
    (page.name, command, text)
    for page in PAGES
    for command, text in re.findall(MARKED, page.read_text(encoding="utf-8"))
    if command in PIECES
]


@pytest.mark.parametrize("example", SHOWN, ids=lambda example: f"{example.page}: {example.command}")
def test_the_output_is_what_its_command_prints(example: Example) -> None:
    """`python -m tests.documents --write` writes the page anew."""
    assert printed(example) == example.output


@pytest.mark.parametrize(("page", "command", "text"), MADE, ids=lambda value: value[:40])
def test_the_table_is_what_its_command_makes(page: str, command: str, text: str) -> None:
    assert PIECES[command]() == text.rstrip("\n")


@pytest.mark.parametrize(("page", "command"), LISTED)
def test_a_command_without_an_output_answers(page: str, command: str) -> None:
    with place(command) as (where, env):
        shelf(where)
        done = run(*shlex.split(command)[1:], env=env, cwd=where)
    assert done.returncode in ((0, 3) if "--require-fit" in command else (0,)), done.stderr
    assert done.stdout


def test_the_picture_is_what_a_terminal_shows() -> None:
    assert seen(picture()) == seen(PICTURE.read_text(encoding="utf-8"))


def test_the_picture_fetches_nothing() -> None:
    """It is shown by hosts that let no picture load another."""
    hosts = set(re.findall(r"\bhttps?://[^\"' )<]+", PICTURE.read_text(encoding="utf-8")))
    assert hosts <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    """In what is about hfmem: lines of other programs name theirs."""
    text = re.sub(r"(?m)^.*\b(?:hf |llama-server|vllm serve|pytest|sphinx-build|python -m|--port).*$", "", _own(page))
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*[a-z])", text))
    assert named - _options() - _of_others() == set()


def _own(page: Path) -> str:
    return re.sub(r"(?ms)^```(?:yaml|sh)\b.*?^```$", "", page.read_text(encoding="utf-8"))


@cache
def _options() -> set[str]:
    """Those of every command of the package, by their help."""
    told = [run("--help-all").stdout]
    scripts = {target.partition(":")[0].removesuffix(".__main__") for target in SCRIPTS.values()} - {"hfmem"}
    told += [process(module, "--help", env=os.environ, cwd=ROOT).stdout for module in sorted(scripts)]
    return set(re.findall(r"--[a-z][a-z-]*", "\n".join(told)))


def _of_others() -> set[str]:
    """Those of `hf`, of llama.cpp, vLLM and SGLang where a page speaks of theirs, and of tests.documents."""
    return {"--lora-modules", "--lora-target-modules", "--global", "--cache-ram", "--split-mode", "--write"}


def _links(page: Path) -> Iterator[str]:
    text = re.sub(r"(?ms)^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    yield from (link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith("https://"))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "docs" / "adding.md", ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Anchors are checked by the strict build."""
    for link in _links(page):
        assert link.startswith("#") or (page.parent / link.partition("#")[0]).exists(), link
