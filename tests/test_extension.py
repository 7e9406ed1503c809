"""hfmem as a plugin of the real `hf` command line: `hf hfmem …` runs the installed `hf-hfmem`.

The plain tests write the manifest with the client's own class; `pytest -m pypi` lets the client install the extension
from an archive of this checkout, as it does from GitHub, with the dependencies from PyPI.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.command import NOWHERE
from tests.fetcher.test_hub import CONFIG, ROWS
from tests.hub import Hub, single
from tests.tools.github import COMMIT, ROOT, repository
from tests.tools.served import serving

SCRIPTS = Path(sys.executable).parent


@pytest.fixture
def installed(hub_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A home in which `hf extensions install` has put the plugin; the manifest is written by the client itself."""
    from huggingface_hub.cli.extensions import ExtensionManifest

    folder = tmp_path / "home" / ".local" / "share" / "hf" / "extensions" / "hf-hfmem"
    ExtensionManifest(
        owner="hfmem",
        repo="hf-hfmem",
        repo_id="hfmem/hf-hfmem",
        short_name="hfmem",
        executable_path=str(SCRIPTS / "hf-hfmem"),
        type="python",
        installed_at=datetime.now(UTC),
        description="How much memory a model needs",
    ).save(folder)
    return {**hub_env, "HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_UPDATE_CHECK": "1"}


def hf(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = shutil.which("hf", path=str(SCRIPTS))
    assert command is not None
    return subprocess.run([command, *arguments], env=env, capture_output=True, text=True, check=False, timeout=60)


def test_hf_hfmem_runs_against_the_hub(hub: Hub, installed: dict[str, str]) -> None:
    hub.put(single("org/small", CONFIG, ROWS))
    process = hf("hfmem", "org/small", "--format", "json", env=installed)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["results"][0]["source"] == "hub"


def test_its_exit_code_is_passed_on(hub: Hub, installed: dict[str, str]) -> None:
    assert hf("hfmem", "org/missing", env=installed).returncode == 1
    assert hf("hfmem", "--nonsense", env=installed).returncode == 2
    assert hub.asked()


def test_it_is_listed(installed: dict[str, str]) -> None:
    assert "hfmem" in hf("extensions", "list", env=installed).stdout


def test_the_package_is_what_the_client_looks_for() -> None:
    """The name of the script is that of the repository (`hf-` and the command); the description of a listing is the
    first line of pyproject.toml that begins with the word (`_try_fetch_remote_description`)."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    assert project["scripts"]["hf-hfmem"] == project["scripts"]["hfmem"]
    first = next(line for line in text.splitlines() if line.startswith("description"))
    assert first.partition("=")[2].strip().strip("\"'") == project["description"]
    assert not (ROOT / "hf-hfmem").exists()  # would be taken for a script that runs by itself
    assert not (ROOT / "manifest.json").exists()


def redirected(server: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The real `hf`, with GitHub's addresses redirected to a server."""
    return subprocess.run(
        [sys.executable, "-m", "tests.tools.github", server, *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


@pytest.mark.pypi
def test_the_client_installs_it_from_an_archive_of_the_checkout(tmp_path: Path) -> None:
    """`hf extensions install hfmem/hf-hfmem`, then `hf hfmem MODEL` in the environment that the client has made."""
    env = {
        **os.environ,
        **NOWHERE,
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf-home"),
        "NO_PROXY": "127.0.0.1",
    }
    env.pop("PYTHONPATH", None)  # the environment's own package answers
    with serving(repository("hfmem")) as (server, seen):
        done = redirected(server, "extensions", "install", "hfmem/hf-hfmem", env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "GET /github.com/hfmem/hf-hfmem/archive/HEAD.zip" in seen
        again = redirected(server, "extensions", "install", "hfmem/hf-hfmem", env=env)
        assert again.returncode != 0  # it is there already
        assert "already installed" in again.stderr
        listed = redirected(server, "extensions", "list", "--format", "json", env=env)
    folder = tmp_path / ".local" / "share" / "hf" / "extensions" / "hf-hfmem"
    manifest = json.loads((folder / "manifest.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert manifest["type"] == "python"
    assert manifest["commit_sha"] == COMMIT
    assert manifest["description"] == project["description"]
    assert json.loads(listed.stdout)[0]["command"] == "hf hfmem"

    answered = hf("hfmem", "meta-llama/Llama-2-7b-hf", "--format", "json", env=env)
    assert answered.returncode == 0, answered.stderr
    (result,) = json.loads(answered.stdout)["results"]
    assert result["kv_cache_per_token"] == 2 * 32 * 32 * 128 * 2
    assert manifest["executable_path"].startswith(str(folder))
    assert "hfmem" in hf("--help", env=env).stdout
    removed = redirected(server, "extensions", "remove", "hfmem", env=env)
    assert removed.returncode == 0
    assert not folder.exists()
