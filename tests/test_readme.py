"""The README says what the program does: its commands, and the output it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.command import run

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
INSTALLING = re.findall(r"^pip install .* && (.*)$", README, re.MULTILINE)


def test_there_are_two_commands() -> None:
    assert [command.split()[0] for command in INSTALLING] == ["hfmem", "pytest"]


def test_the_card_is_what_the_first_command_prints(alone: dict[str, str]) -> None:
    process = run(*shlex.split(INSTALLING[0])[1:], env=alone)
    assert process.stdout in README


SHOWN = re.findall(r"^\$ (hfmem .*)\n((?:.*\n)+?)```", README, re.MULTILINE)


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_the_output_is_what_its_command_prints(command: str, output: str, alone: dict[str, str]) -> None:
    assert run(*shlex.split(command)[1:], env=alone).stdout == output


def test_every_option_it_names_exists() -> None:
    named = set(re.findall(r"(?<!-)(--[a-z][a-z-]*)", README))
    assert named - set(re.findall(r"--[a-z][a-z-]*", run("--help-all").stdout)) == set()
