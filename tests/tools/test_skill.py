"""The skill for agents: installed by the client's own installer, and followed to the letter."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.command import run
from tests.gguf_repositories import folder
from tests.tools.github import ROOT
from tests.tools.marketplace import bucket, marketplace
from tests.tools.served import serving

SKILL = ROOT / "skills" / "hfmem"
TEXT = (SKILL / "SKILL.md").read_text(encoding="utf-8")
COMMANDS = [block.strip() for block in re.findall(r"^```bash\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)]
INLINE = [word for word in re.findall(r"`(hfmem [^`]*)`", TEXT) if "FILE" not in word]


def test_its_head_is_what_agents_read() -> None:
    """The limits of https://agentskills.io/specification."""
    _, head, body = TEXT.split("---\n", 2)
    told = yaml.safe_load(head)
    assert told["name"] == SKILL.name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", told["name"])
    assert len(told["name"]) <= 64
    assert 0 < len(told["description"]) <= 1024
    assert len(told["compatibility"]) <= 500
    assert set(told) <= {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}
    assert len(body.splitlines()) < 500


def test_the_clients_installer_installs_it(tmp_path: Path) -> None:
    """`hf skills add hfmem` against a marketplace served over HTTP: the same bytes, where agents look."""
    command = shutil.which("hf", path=str(Path(sys.executable).parent))
    assert command is not None
    with serving(bucket(marketplace(SKILL))) as (server, seen):
        env = {
            **os.environ,
            "HF_ENDPOINT": server,
            "HF_HOME": str(tmp_path / "home"),
            "HOME": str(tmp_path),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        done = subprocess.run(
            [command, "skills", "add", "hfmem"],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert any("reconstructions" in path for path in seen)
    for place in (".agents/skills/hfmem", ".claude/skills/hfmem"):
        assert (tmp_path / place / "SKILL.md").read_text(encoding="utf-8") == TEXT


@pytest.mark.parametrize("command", COMMANDS + INLINE)
def test_what_it_says_to_run_answers(command: str, alone: dict[str, str]) -> None:
    done = run(*shlex.split(command)[1:], env=alone)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_keys_that_it_names_are_there(alone: dict[str, str]) -> None:
    (asked,) = (command for command in COMMANDS if "--format json" in command)
    document = json.loads(run(*shlex.split(asked)[1:], env=alone).stdout)
    result = document["results"][0]
    for path in re.findall(r"`results\[0\]\.([\w.]+)(?:\[\])?`", TEXT):
        value = result
        for key in path.split("."):
            value = value[key]
    named = re.findall(r"`(\w+)`", TEXT.partition("`results[0].fit[]`")[2].partition("\n* ")[0])
    assert set(named) >= {"fits", "tight", "headroom", "max_batch", "max_seq", "gpus_needed"}
    assert set(named) <= result["fit"][0].keys()
    assert {"total_is_lower_bound", "source", "help", "notes"} <= result.keys()
    assert "errors" in document


def test_a_training_file_and_a_gguf_file_are_read_as_it_says(alone: dict[str, str], tmp_path: Path) -> None:
    """The two commands with a file: each with a real one."""
    training = tmp_path / "train.yaml"
    training.write_text("base_model: Qwen/Qwen3-8B\nadapter: qlora\nload_in_4bit: true\nmicro_batch_size: 1\n")
    (gguf,) = folder(tmp_path, ["Q4_K_M"]).glob("*.gguf")
    asked = {word for word in re.findall(r"`(hfmem [^`]*)`", TEXT) if "FILE" in word}
    assert len(asked) == 2
    for command in asked:
        words = shlex.split(command.replace("FILE.gguf", str(gguf)).replace("FILE", str(training)))
        done = run(*words[1:], env=alone)
        assert done.returncode == 0, done.stderr
        assert "Qwen3-8B" in done.stdout or "Q4_K_M" in done.stdout
