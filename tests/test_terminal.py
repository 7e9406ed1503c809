"""What a person has at hand on a terminal: short switches, defaults of one's own, completion, colours."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import hfmem
from hfmem.cli import table
from hfmem.completion import completions
from hfmem.hardware.detect import machine
from hfmem.hardware.table import accelerators
from hfmem.options import rules
from hfmem.options.option import value_of
from tests.command import NOWHERE, run
from tests.test_cli import on_terminal

LLAMA = "meta-llama/Llama-2-7b-hf"
GPT = "openai-community/gpt2"


@pytest.mark.parametrize(
    ("short", "long"), [("-q", "quiet"), ("--quiet", "quiet"), ("--json", "json")], ids=lambda word: word
)
def test_short_switches_are_those_of_hf(short: str, long: str) -> None:
    asked = (LLAMA, GPT, "--offline")
    assert run(*asked, short).stdout == run(*asked, "--format", long).stdout != ""
    assert run(*asked, short, "--format", long).returncode == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-q", "--json"), "--json cannot be used with -q."),
        (("--json", "--format", "csv"), "--json cannot be used with --format csv."),
        (("-q", "--format", "table"), "-q cannot be used with --format table."),
    ],
)
def test_one_format_at_a_time(words: tuple[str, ...], sentence: str) -> None:
    done = run(LLAMA, *words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == sentence
    assert done.stdout == ""


def test_the_word_of_hf_for_tables() -> None:
    assert run(LLAMA, "--offline", "--format", "human").stdout == run(LLAMA, "--offline").stdout


def test_rows_for_agents_are_whole_and_have_the_figures_of_json() -> None:
    asked = (LLAMA, "nobody/has-this", GPT, "--gpu", "H100", "--offline")
    done = run(*asked, "--format", "agent")
    assert done.returncode == 1
    heading, *lines = (line.split("\t") for line in done.stdout.splitlines())
    rows = [dict(zip(heading, line, strict=True)) for line in lines]
    results = json.loads(run(*asked, "--json").stdout)["results"]
    for row, result in zip([row for row in rows if not row["error"]], results, strict=True):
        assert row["model"] == result["model"]
        assert int(row["total"]) == result["memory"]["total"]
        assert row["verdict: H100 80GB"] == result["fit"][0]["verdict"]
    assert [row["error"] for row in rows if row["error"]] == ["offline_error"]
    assert "gradients" not in heading


@pytest.fixture
def mine(alone: dict[str, str], tmp_path: Path) -> Mine:
    """A person with an empty folder for defaults, in a project without any."""
    folder = tmp_path / "project" / "deeper"
    folder.mkdir(parents=True)
    return Mine(
        tmp_path / "config" / "hfmem" / "config.toml", folder, {**alone, "XDG_CONFIG_HOME": f"{tmp_path}/config"}
    )


class Mine(NamedTuple):
    """Where defaults of one's own are, and a run that reads them."""

    file: Path
    folder: Path
    env: dict[str, str]

    def has(self, text: str) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text, encoding="utf-8")

    def project(self, text: str) -> None:
        self.folder.parent.joinpath("pyproject.toml").write_text(text, encoding="utf-8")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(*words, "--offline", env=self.env, cwd=self.folder)

    def result(self, *words: str) -> dict[str, Any]:
        (found,) = json.loads(self.run(LLAMA, "--json", *words).stdout)["results"]
        return dict(found)


MINE = 'gpu = "RTX 4090"\nruntime = "vllm"\nunit = "GB"\n'


def test_defaults_of_ones_own_count_and_are_named(mine: Mine) -> None:
    mine.has(MINE)
    done = mine.run(LLAMA)
    said = " ".join(done.stdout.split())
    assert "1 × RTX 4090" in said
    assert "vLLM" in said
    assert " GB" in said
    assert " GiB" not in said
    assert "--runtime vllm --gpu 'RTX 4090' --unit GB: the default in" in said
    assert "hfmem/config.toml (--no-defaults leaves it out)" in said
    assert mine.run(LLAMA, "-q").stderr.count("the default in") == 1
    found = mine.result()
    assert (found["scenario"]["runtime"], found["fit"][0]["gpu"]) == ("vllm", "RTX 4090")
    assert any("the default in" in note for note in found["notes"])


def test_what_is_asked_counts_before_defaults(mine: Mine) -> None:
    mine.has(MINE)
    found = mine.result("--gpu", "T4", "--runtime", "transformers")
    assert (found["scenario"]["runtime"], [row["gpu"] for row in found["fit"]]) == ("transformers", ["T4"])
    assert not any("the default in" in note for note in found["notes"])
    assert " GiB" in mine.run(LLAMA, "--unit", "GiB").stdout
    assert mine.run(LLAMA, "--no-defaults").stdout == run(LLAMA, "--offline").stdout


def test_the_projects_defaults_win_key_by_key(mine: Mine) -> None:
    mine.has(MINE)
    mine.project('[tool.hfmem]\ngpu = ["T4", "2x L4"]\n')
    found = mine.result()
    assert [row["gpu"] for row in found["fit"]] == ["T4", "L4"]
    assert found["scenario"]["runtime"] == "vllm"
    said = [note for note in found["notes"] if "the default in" in note]
    assert ["pyproject.toml" in note for note in said] == [False, True]


def test_a_default_that_does_not_go_with_what_is_asked_is_left_out(mine: Mine) -> None:
    mine.has(MINE)
    found = mine.result("--train", "lora")
    assert found["scenario"]["runtime"] == "transformers"
    assert [note for note in found["notes"] if "the default in" in note] == [
        note for note in found["notes"] if note.startswith("--gpu 'RTX 4090': the default in")
    ]
    assert mine.run(LLAMA, "--max-num-seqs", "4").returncode == 0  # an option of the default engine


def test_defaults_are_for_the_command_line_alone(mine: Mine, monkeypatch: pytest.MonkeyPatch) -> None:
    mine.has(MINE)
    monkeypatch.setenv("XDG_CONFIG_HOME", mine.env["XDG_CONFIG_HOME"])
    assert not hfmem.estimate(LLAMA, offline=True).fits


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gpus = 'T4'", "'gpus' is not one of runtime, gpu, unit (did you mean 'gpu'?), which may have a default"),
        ("unit = 'TB'", "--unit 'TB' is not one of GiB, GB"),
        ("gpu = 'RTX 49090'", "--gpu 'RTX 49090' is not in the table"),
        ("gpu = 3", "--gpu is 3, expected a list"),
        ("runtime = 3", "--runtime is 3, expected a word"),
        ("runtime = true", "--runtime is True, expected a word"),
        ("gpu = [['T4']]", "--gpu is ['T4'], expected a word"),
        ("gpu = ", "cannot be read ("),
        ("[" * 5000, "cannot be read ("),
    ],
)
def test_defaults_that_cannot_be_are_a_sentence(text: str, sentence: str, mine: Mine) -> None:
    mine.has(text)
    done = mine.run(LLAMA)
    assert done.returncode == 2
    assert done.stdout == ""
    assert sentence in done.stderr
    assert "config.toml: " in done.stderr
    assert "Correct it, or use --no-defaults" in done.stderr
    assert mine.run(LLAMA, "--no-defaults").returncode == 0


def test_projects_that_have_none_are_nobodys_concern(mine: Mine) -> None:
    for text in ("[tool.other]\n", "tool = 3\n# tool.hfmem", "not toml"):
        mine.project(text)
        assert mine.run(LLAMA, "-q").stderr == ""
    mine.project("[tool]\nhfmem = 3")
    assert mine.run(LLAMA, "-q").returncode == 0
    mine.project("tool.hfmem = 3")
    assert "pyproject.toml: tool.hfmem is not a table" in mine.run(LLAMA, "-q").stderr


def test_a_default_that_cannot_be_read_now_is_left_out_with_a_word(mine: Mine) -> None:
    mine.has('gpu = ["me", "T4"]')
    found = mine.result()
    assert [row["gpu"] for row in found["fit"]] == ["T4"]
    done = mine.run(LLAMA, "-q")
    assert done.returncode == 0
    assert "--gpu me is the hardware saved on your Hub profile, which cannot be read offline." in done.stderr
    assert mine.run(LLAMA, "--gpu", "me").returncode == 2


def test_the_unit_is_that_of_the_list_of_accelerators_too(mine: Mine) -> None:
    mine.has(MINE)
    done = run("--list-gpus", env=mine.env, cwd=mine.folder)
    assert "GB" in done.stdout.partition("\n\n")[0]
    assert done.stdout == run("--list-gpus", "--unit", "GB").stdout
    assert "--unit GB: the default in" in done.stderr
    assert "--gpu" not in done.stderr
    assert run("--list-gpus", "--json", env=mine.env, cwd=mine.folder).stderr == ""


def test_the_default_is_named_where_the_model_fails(mine: Mine) -> None:
    mine.has("runtime = 'llamacpp'")
    done = mine.run("nobody/has-this")
    assert done.returncode == 1
    assert "--runtime llamacpp: the default in" in done.stderr


def terminal(*words: str, **env: str) -> str:
    """What is printed on a terminal of 100 columns."""
    around = {name: value for name, value in os.environ.items() if name not in ("TERM", "COLORTERM")}
    return on_terminal(*words, env={**around, **NOWHERE, "NO_COLOR": "", **env}, columns=100)


@pytest.mark.parametrize(
    ("env", "colour"),
    [
        ({"TERM": "xterm-256color"}, "48;5;"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "48;2;"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, ""),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, "48;5;"),
        ({"TERM": "dumb"}, ""),
        ({}, ""),
    ],
)
def test_the_meter_has_the_colours_of_the_terminal(env: dict[str, str], colour: str) -> None:
    shown = terminal(LLAMA, "--gpu", "RTX 4090", "--offline", **env)
    assert "[W" in re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert bool(colour) == ("\x1b[" in shown)
    assert colour in shown


def test_files_and_other_formats_have_no_colours() -> None:
    asked = (LLAMA, "--gpu", "RTX 4090", "--offline")
    assert "\x1b" not in run(*asked, env={**os.environ, **NOWHERE, "TERM": "xterm-256color"}).stdout
    for name in ("json", "csv", "markdown", "agent", "html"):
        assert "\x1b" not in terminal(*asked, "--format", name, TERM="xterm-256color")


BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(BASH is None, reason="there is no bash")


class Person:
    """Somebody in an interactive bash in which completion is installed."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self._terminal, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 300, 0, 0))
        self._bash = subprocess.Popen([str(BASH), "-i"], env=env, cwd=folder, stdin=there, stdout=there, stderr=there)
        os.close(there)
        self.shown()
        self.types("PS1='$ '\n")

    def types(self, keys: str) -> str:
        """What the terminal shows after these keys, when it has come to rest."""
        os.write(self._terminal, keys.encode())
        return self.shown()

    def shown(self) -> str:
        found, rest = b"", 60.0
        while select.select([self._terminal], [], [], rest)[0]:
            found += os.read(self._terminal, 65536)
            rest = 0.5 if found.endswith((b"$ ", b" ")) else 3.0
        return found.decode().replace("\a", "")

    def leaves(self) -> None:
        self._bash.kill()
        self._bash.wait()
        os.close(self._terminal)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A home with `hfmem` in it, and its environment, after `hfmem --install-completion` in bash."""
    home = tmp_path_factory.mktemp("home")
    program = home / "bin" / "hfmem"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m hfmem "$@"\n')
    program.chmod(0o755)
    env = {**os.environ, **NOWHERE, "HOME": str(home), "HF_HOME": str(home), "PS1": "$ ", "TERM": "dumb"}
    env |= {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(Path(hfmem.__file__).parents[1])}
    env |= {"INPUTRC": os.devnull}
    (home / "hub" / "models--Somebody--Tuned-Model").mkdir(parents=True)
    (home / "hfmem" / "v1" / "asked--before").mkdir(parents=True)
    done = subprocess.run(
        [str(BASH), "-c", "hfmem --install-completion; exit $?"], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return home, env


@needs_bash
def test_a_person_in_bash_completes_words(home: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").touch()
    person = Person(home[1], tmp_path)
    try:
        assert person.types("hfmem meta-llama/Llama-2-7b-h\t").endswith("Llama-2-7b-hf ")
        assert person.types("--gpu H100-P\t").endswith("H100-PCIe ")
        assert person.types("--optimizer adamw-8\t").endswith("adamw-8bit ")
        assert person.types("--explai\t").endswith("--explain ")
        assert person.types("./wei\t").endswith("./weights.gguf ")
    finally:
        person.leaves()


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("meta-llama/Llama-2-", ["meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-70b-hf"]),
        ("META-LLAMA/llama-2-7b-H", ["META-LLAMA/llama-2-7b-Hf"]),
        ("Some", ["Somebody/Tuned-Model"]),
        ("aske", ["asked/before"]),
        ("openai-community/gpt2 meta-llama/Llama-2-7b-h", ["meta-llama/Llama-2-7b-hf"]),
        ("x --gpu rtx-409", ["rtx-4090"]),
        ("x --gpu 4xl40", ["4xl40", "4xl40S"]),
        ("x --gpu p4d", ["p4d.24xlarge"]),
        ("x --gpu a", ["auto"]),
        ("x --optimizer ad", ["adamw", "adafactor"]),
        ("x --runtime v", ["vllm"]),
        ("x --format j", ["json", "jsonl"]),
        ("x --dtype nf", ["nf4"]),
        ("x --freeze vision,a", ["vision,audio"]),
        ("x --sort to", ["total"]),
        ("x --stack meg", ["megatron"]),
        ("x --precision bf", ["bf16"]),
        ("--help-for v", ["vllm"]),
        ("--install", ["--install-completion"]),
        ("--help-all --require", ["--require-fit"]),
        ("--version --require", ["--require-fit"]),
    ],
)
def test_words_that_a_shell_asks_for(line: str, some: list[str], home: tuple[Path, dict[str, str]]) -> None:
    found = asked_by_shell(line, home[1])
    assert set(some) <= set(found)
    last = line.rpartition(" ")[2]
    assert all(word.startswith(last) for word in found)


@pytest.mark.parametrize("line", ["./wei", "/tmp/", "~/", "x --from li", "x --batch 4", "x --token hf", "nobody/has"])
def test_files_and_numbers_are_left_to_the_shell(line: str, home: tuple[Path, dict[str, str]]) -> None:
    assert asked_by_shell(line, home[1]) == []


def asked_by_shell(line: str, env: dict[str, str]) -> list[str]:
    words = ["hfmem", *line.split(" ")]
    asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1), "_HFMEM_COMPLETE": "complete_bash"}
    done = run(env=env | asked)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_every_accelerator_is_completed_to_a_name_that_means_it() -> None:
    (gpu,) = (option for option in table() if option.name == "gpu")
    words = completions(gpu, "")
    assert {machine(word).accelerator.name for word in words if word not in ("auto", "me", "cpu")} >= {
        row.name for row in accelerators()
    }
    assert not any(" " in word for word in words)


def test_all_words_of_options_are_taken() -> None:
    """A word that is offered and then refused would be worse than none."""
    for option in table():
        if option.name in ("gpu", "help_for", "sort"):
            continue
        for word in completions(option, ""):
            assert rules.wrong(option, value_of(option, word)) is None, (option.name, word)
