"""The hook, run by pre-commit itself from PyPI, on a repository that uses it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.command import NOWHERE
from tests.tools.github import ROOT, files

HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
WORKED = "base_model: Qwen/Qwen3-8B\nadapter: qlora\nload_in_4bit: true\nmicro_batch_size: 1\nsequence_len: 2048\n"


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def committed(folder: Path) -> str:
    """A repository of what is in a folder: its commit."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", "all")
    return git(folder, "rev-parse", "HEAD")


@pytest.mark.pypi
def test_pre_commit_runs_it(tmp_path: Path) -> None:
    hook, own, tool = tmp_path / "hook", tmp_path / "own", tmp_path / "tool"
    for path in files():
        target = hook / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    entry = {"id": HOOKS[0]["id"], "args": ["--gpu", "RTX 4090"]}
    own.mkdir()
    config = {"repos": [{"repo": str(hook), "rev": committed(hook), "hooks": [entry]}]}
    (own / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    (own / "train.yaml").write_text(WORKED)
    (own / "serve.sh").write_text("#!/bin/sh\nvllm serve Qwen/Qwen3-8B --max-model-len 8192\n")
    (own / "other.yaml").write_text("not: a training file\n")
    committed(own)
    subprocess.run([sys.executable, "-m", "venv", str(tool)], check=True, timeout=120)
    python = str(tool / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "pre-commit>=4"], check=True, timeout=300)
    env = {**os.environ, **NOWHERE, "PRE_COMMIT_HOME": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "home")}
    env.pop("PYTHONPATH", None)
    command = [python, "-m", "pre_commit", "run", "--all-files", "--verbose"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=own, env=env, capture_output=True, text=True, timeout=600, check=False)

    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train.yaml: Qwen/Qwen3-8B" in done.stdout
    assert "vllm serve Qwen/Qwen3-8B --max-model-len 8192: Qwen/Qwen3-8B" in done.stdout
    (own / "train.yaml").write_text(WORKED.replace("qlora", "lora").replace("true", "false"))
    done = run()
    assert done.returncode == 1
    assert "exit code: 3" in done.stdout
    assert "missing" in done.stdout
