"""The GitHub Action: its steps run by bash as a runner does, and what they write into the job's summary."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command import NOWHERE
from tests.tools.github import ROOT

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
TRAINING = "base_model: Qwen/Qwen3-8B\nadapter: {}\nload_in_4bit: {}\nmicro_batch_size: 1\nsequence_len: 2048\n"
SERVING = "vllm serve meta-llama/Llama-3.1-8B-Instruct --port 8000 --max-model-len 32768"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a run of the action left."""

    code: int
    summary: str
    outputs: Mapping[str, str]
    log: str


def started(folder: Path, inputs: Mapping[str, str], *, install: bool = False) -> Job:
    """Run the steps as a runner does: `bash -eo pipefail` on a file of each, expressions replaced, in the job's folder.
    `install` also runs the step that installs the package; otherwise this interpreter stands where it would be."""
    assert inputs.keys() <= ACTION["inputs"].keys()
    given = {name: inputs.get(name, each.get("default", "")) for name, each in ACTION["inputs"].items()}
    paths = {name: folder / name.lower() for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "RUNNER_TEMP")}
    paths["RUNNER_TEMP"].mkdir()
    env = {**os.environ, **NOWHERE, "HF_HOME": str(folder / "home"), "GITHUB_ACTION_PATH": str(ROOT)}
    env |= {name: str(path) for name, path in paths.items()}
    if install:
        env.pop("PYTHONPATH", None)
    else:
        _interpreter(paths["RUNNER_TEMP"] / "hfmem" / "bin" / "python")
    log, code = "", 0
    for step in ACTION["runs"]["steps"][0 if install else 1 :]:
        script = folder / "step.sh"
        script.write_text(step["run"])
        own = {name: _evaluated(str(value), given) for name, value in step.get("env", {}).items()}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        done = subprocess.run(
            command, cwd=folder, env=env | own, capture_output=True, text=True, timeout=900, check=False
        )
        log, code = log + done.stdout + done.stderr, done.returncode
        if code:
            break
    left = {name: path.read_text(encoding="utf-8") if path.is_file() else "" for name, path in paths.items()}
    outputs = dict(line.split("=", 1) for line in left["GITHUB_OUTPUT"].splitlines())
    return Job(code=code, summary=left["GITHUB_STEP_SUMMARY"], outputs=outputs, log=log)


def _evaluated(value: str, inputs: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda found: inputs[found[1]], value)


def _interpreter(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_no_input_is_part_of_a_script() -> None:
    """A title of a pull request, or whatever an input is made of, cannot become a command."""
    assert not any("${{" in step["run"] for step in ACTION["runs"]["steps"])
    assert all("description" in each for each in ACTION["inputs"].values())


def test_a_training_file_and_a_line_that_fit(tmp_path: Path) -> None:
    (tmp_path / "qlora.yaml").write_text(TRAINING.format("qlora", "true"))
    job = started(tmp_path, {"files": "qlora.yaml\n", "lines": SERVING, "gpu": "H100, A100 80GB"})
    assert job.code == 0, job.log
    assert job.outputs == {"fits": "true"}
    rows = [line for line in job.summary.splitlines() if line.startswith("| `")]
    assert len(rows) == 4
    assert all("✅ fits" in row for row in rows)
    assert [row.split("|")[3].strip() for row in rows] == ["H100 80GB", "A100 80GB", "H100 80GB", "A100 80GB"]
    assert "32,768 tokens, vllm" in job.summary
    assert "takes no memory: `--port`" in job.summary


def test_what_does_not_fit_fails_the_job_and_says_what_would_help(tmp_path: Path) -> None:
    (tmp_path / "full.yaml").write_text("base_model: Qwen/Qwen3-8B\nmicro_batch_size: 1\nsequence_len: 2048\n")
    job = started(tmp_path, {"files": "full.yaml", "gpu": "RTX 4090"})
    assert job.code == 3
    assert job.outputs == {"fits": "false"}
    assert "❌ no" in job.summary
    assert "What would help `Qwen/Qwen3-8B`" in job.summary


def test_it_can_only_tell(tmp_path: Path) -> None:
    job = started(tmp_path, {"lines": SERVING, "gpu": "8GB", "fail": "false"})
    assert job.code == 0
    assert job.outputs == {"fits": "false"}


def test_a_line_that_is_not_understood_is_no_fit(tmp_path: Path) -> None:
    line = f"{SERVING} --of-tomorrow 3"
    job = started(tmp_path, {"lines": f"{line}; echo '$(touch broken)' `touch broken`", "gpu": "H100"})
    assert job.code == 1
    assert job.outputs == {"fits": "unknown"}
    assert "--of-tomorrow" in job.summary
    assert not (tmp_path / "broken").exists()


def test_options_are_those_of_the_command_line(tmp_path: Path) -> None:
    job = started(tmp_path, {"lines": SERVING, "gpu": "H100", "options": "--reserve 70GiB"})
    assert job.outputs == {"fits": "false"}
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    job = started(wrong, {"lines": SERVING, "gpu": "H1000"})
    assert job.code == 2
    assert "--list-gpus" in job.summary


@pytest.mark.pypi
def test_both_steps_from_a_checkout(tmp_path: Path) -> None:
    job = started(tmp_path, {"lines": SERVING, "gpu": "H100"}, install=True)
    assert job.code == 0, job.log
    assert "✅ fits" in job.summary
