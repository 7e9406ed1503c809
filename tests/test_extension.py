"""hfmem as a plugin of the real `hf` command line: `hf hfmem …` runs the installed `hf-hfmem`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fetcher.test_hub import CONFIG, ROWS
from tests.hub import Hub, single

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
