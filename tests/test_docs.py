"""docs/adding.md is followed to the letter: its blocks are put into a copy of the package, and its commands are run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
COPIED = ("hfmem", "tests", "fixtures", "pyproject.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of code of the page: its language, the file it is for ("" for none), and its lines."""

    language: str
    path: str
    text: str


BLOCKS = [
    Block(language=language, path=path.strip(), text=text)
    for language, path, text in re.findall(r"^```(\w+)( \S+)?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
]
FILES = [block for block in BLOCKS if block.path]
PROGRAMS = [block.text for block in BLOCKS if block.language == "python" and not block.path]
COMMANDS = [
    (command, output)
    for block in BLOCKS
    if block.language == "console"
    for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE)
]


def written(block: Block, root: Path) -> None:
    """Do what a block with a path says: a new file, further rows of a table, or a change to a file."""
    path = root / block.path
    if block.language == "diff":
        for hunk in block.text.split("@@\n"):
            changed(path, hunk.splitlines(keepends=True))
    elif block.language == "csv":
        path.write_text(path.read_text(encoding="utf-8") + block.text, encoding="utf-8")
    else:
        assert not path.exists(), f"{block.path} is there already"
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text, encoding="utf-8")


def changed(path: Path, hunk: list[str]) -> None:
    """Change a file as the lines of a diff say, whose old lines stand in it once."""
    before, after = ("".join(line[1:] for line in hunk if line[0] in (" ", sign)) for sign in "-+")
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path.name} has {text.count(before)} times:\n{before}"
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and its tests, with everything that the page adds."""
    root = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("*.pyc.*"))  # not yet complete
        else:
            shutil.copy(source, root / name)
    for block in FILES:
        written(block, root)
    return root


def run(copy: Path, *words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=copy,
        env={**env, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def pattern(output: str) -> str:
    """The output as it is shown, … standing for anything in a line, or for any lines."""
    lines = output.replace("…\n", "\0") if output.startswith("…\n") else output.replace("\n…\n", "\n\0")
    return re.escape(lines.replace("\n…\n", "\n\0")).replace("\0", r"(?:.*\n)*?").replace("…", ".*")


@pytest.mark.parametrize(
    ("command", "output"), [row for row in COMMANDS if row[0].startswith("hfmem ")], ids=lambda value: value[:60]
)
def test_a_command_prints_what_is_shown(command: str, output: str, copy: Path, alone: dict[str, str]) -> None:
    process = run(copy, "-m", *shlex.split(command), env=alone)
    assert output
    assert process.returncode == 0, process.stderr
    assert re.fullmatch(pattern(output), process.stdout), process.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs(program: str, copy: Path, alone: dict[str, str]) -> None:
    assert "assert " in program
    process = run(copy, "-c", program, env=alone)
    assert process.returncode == 0, process.stderr


def test_the_tests_that_are_named_pass_in_the_copy(copy: Path) -> None:
    """Those of what was added, in one run, and those of the package's shape for the new modules."""
    asked = [shlex.split(command) for command, _ in COMMANDS if command.startswith("pytest ")]
    paths = [Path(block.path) for block in FILES if block.language == "python"]
    modules = [f"{path.parent.name}.{path.stem}" for path in paths if path.stem != "__init__"]
    files = [words[1] for words in asked] + ["tests/test_architecture.py", "tests/test_house.py"]
    added = [*(words[3] for words in asked), *modules, "circle", "screen"]
    words = ("-q", "-rA", "-n", "0", "-p", "no:cacheprovider", *files, "-k", " or ".join(sorted(added)))
    process = run(copy, "-m", "pytest", *words, env=dict(os.environ))
    told = "\n".join(line for line in process.stdout.splitlines() if not line.startswith("PASSED"))
    assert process.returncode == 0, told
    for name in added:
        assert re.search(f"^PASSED .*{re.escape(name)}", process.stdout, re.MULTILINE), name


def test_every_place_it_names_exists() -> None:
    new = {block.path for block in FILES}
    named = set(re.findall(r"`((?:hfmem|tests|fixtures|docs)/[\w./]*)(?:::(\w+))?`", PAGE))
    assert len(named) > 40
    for path, function in named:
        assert path in new or (ROOT / path).exists(), path
        assert not function or f"def {function}(" in (ROOT / path).read_text(encoding="utf-8"), function


def test_every_language_is_one_that_is_followed() -> None:
    assert {block.language for block in BLOCKS} == {"text", "python", "diff", "csv", "json", "console"}
    assert {command.split()[0] for command, _ in COMMANDS} == {"hfmem", "pytest"}
