"""The pages, the commands in them, and their outputs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.command import NOWHERE, run
from tests.fetcher.test_hub import CONFIG, ROWS
from tests.gguf_repositories import folder, repository
from tests.hub import Hub
from tests.hub.files import safetensors_file

__all__ = ["Example", "examples", "listed", "pages", "place", "printed", "process", "regenerated", "shelf"]

ROOT: Final = Path(__file__).parents[2]
_FOLLOWED_ELSEWHERE: Final = {"adding.md"}  # tests/test_docs.py applies it to a copy of the package
_BLOCK: Final = re.compile(r"^```(?P<language>\w*)(?: (?P<path>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND: Final = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_FIRST: Final = re.compile(r"(^pip install \. && (hfmem .*)\n```\n\n```text\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """README.md and every page of docs/ that shows what the program prints."""
    inside = (path for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in _FOLLOWED_ELSEWHERE)
    return [ROOT / "README.md", *inside]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A command with the output that stands under it.

    Attributes:
        page: the name of the page.
        command: with what filters its output: `| head -n N`, `| tail -n N` or `| grep WORD`.
        output: as it stands there.
        start: where the output begins in the page's text.
        files: the files that the page shows before, by name.
    """

    page: str
    command: str
    output: str
    start: int
    files: Mapping[str, str] = field(default_factory=dict)


def examples(page: Path) -> Iterator[Example]:
    """The commands of a page that have an output, the README's first one included."""
    text = page.read_text(encoding="utf-8")
    if first := _FIRST.search(text):
        yield Example(page=page.name, command=first[2], output=first[3], start=first.start(3))
    files: dict[str, str] = {}
    for block in _BLOCK.finditer(text):
        if block["path"]:
            files[block["path"]] = block["text"]
        elif block["language"] == "console":
            for found in _COMMAND.finditer(text, block.start("text"), block.end("text")):
                if found[1].startswith(("hfmem ", "hfmem-check ")):  # not a server
                    start = found.start(2)
                    yield Example(page=page.name, command=found[1], output=found[2], start=start, files=dict(files))


def listed(page: Path) -> Iterator[str]:
    """The commands of a page without an output: lines of a ```bash block. What follows ` #` is a comment."""
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["language"] == "bash":
            for line in block["text"].splitlines():
                yield from (each for each in re.split(r"  +(?=hfmem )", line.partition(" #")[0].strip()) if each)


def printed(example: Example) -> str:
    """What the command prints now, in a folder with the page's files.

    Raises:
        AssertionError: it fails.
    """
    command, *filters = (shlex.split(part) for part in re.split(r" \| (?=(?:head|tail|grep) )", example.command))
    with place(example.command) as (where, env):
        for name, text in example.files.items():
            (where / name).write_text(text, encoding="utf-8")
        if command[0] == "hfmem-check":
            done = process("hfmem.preflight", *command[1:], env=env, cwd=where)
        else:
            done = run(*command[1:], env=env, cwd=where)
    judged = "--require-fit" in command or command[0] == "hfmem-check"
    assert done.returncode in ((0, 3) if judged else (0,)), done.stderr
    lines = re.sub(r"(the Hub) at [0-9a-f]{12}( \([\w.:]+\))?$", r"\1", done.stdout, flags=re.M).splitlines(
        keepends=True
    )
    for name, *words in filters:
        lines = _FILTERS[name](lines, words)
    return "".join(lines)


def process(module: str, *words: str, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE` of this checkout."""
    command = [sys.executable, "-m", module, *words]
    own = {**env, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=own, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


_FILTERS: Final = {
    "head": lambda lines, words: lines[: int(words[-1])],
    "tail": lambda lines, words: lines[-int(words[-1]) :],
    "grep": lambda lines, words: [line for line in lines if words[-1] in line],
}


@contextmanager
def place(command: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with the files that commands of the pages name, and an environment: without a Hub, so that the catalog
    answers, or with one where a repository of GGUF files is asked for."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        own = {"HF_HOME": str(path / "home"), "XDG_CONFIG_HOME": str(path / "config"), "COLUMNS": "100"}
        env = {**os.environ, **NOWHERE, **own}
        named = re.search(r"\b([\w.-]+/[\w.-]+-GGUF)\b", command)
        if named is None:
            yield path, env
            return
        quants = ("F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
        with Hub([repository(quants, name=named[1])]) as hub:
            yield path, {**env, "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def shelf(path: Path) -> None:
    """The files that listed commands take: GGUF, a model's folder and file, a list of models, training files."""
    (file,) = folder(path, ["Q4_K_M"]).glob("*.gguf")
    file.rename(path / "model-Q4_K_M.gguf")
    weights = safetensors_file("model.safetensors", ROWS)
    (path / "folder").mkdir()
    for target in (path / weights.name, path / "folder" / weights.name):
        with target.open("wb") as out:
            out.write(weights.head)
            out.truncate(weights.size)  # zeros that take no room
    (path / "folder" / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (path / "models.txt").write_text("Qwen/Qwen3-8B\nopenai-community/gpt2\n", encoding="utf-8")
    (path / "accelerate.yaml").write_text(_ACCELERATE, encoding="utf-8")
    for name in ("train.yaml", "sft.yaml"):
        (path / name).write_text(_TRAINING, encoding="utf-8")


_TRAINING: Final = "model_name_or_path: Qwen/Qwen3-8B\nbf16: true\nper_device_train_batch_size: 1\nmax_length: 2048\n"
_ACCELERATE: Final = "distributed_type: MULTI_GPU\nnum_processes: 2\nmixed_precision: bf16\n"


def regenerated(page: Path) -> str:
    """The page with every output as it is now."""
    text = page.read_text(encoding="utf-8")
    for example in reversed(list(examples(page))):
        text = text[: example.start] + printed(example) + text[example.start + len(example.output) :]
    return text
