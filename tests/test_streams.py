"""Standard streams that are closed, full or left, and files where something else lies: whole processes in a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import NOWHERE, run
from tests.fetcher.test_hub import CONFIG, ROWS
from tests.hub import Hub, single
from tests.test_cli import LLAMA, on_terminal

HFMEM = f"{sys.executable} -m hfmem"
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """An environment without a Hub and with an empty cache."""
    return {**os.environ, **NOWHERE, "HF_HOME": str(tmp_path / "home")}


def shell(line: str, env: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A line of bash, in which `hfmem` is the command; it must not hang, and shows no traceback."""
    line = f"set -o pipefail; {line.replace('hfmem ', f'{HFMEM} ')}"
    done = subprocess.run(
        ["bash", "-c", line], env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (f"hfmem {LLAMA} --offline >&-", 0),
        (f"hfmem {LLAMA} --offline 2>&-", 0),
        (f"hfmem {LLAMA} --offline <&-", 0),
        (f"hfmem {LLAMA} --offline <&- >&- 2>&-", 0),
        (f"hfmem {LLAMA} --offline 2>/dev/full", 0),
        (f"hfmem {LLAMA} --offline --gpu 'RTX 3060' --require-fit >&-", 3),
        (f"hfmem {LLAMA} --offline --gpu 'RTX 3060' --require-fit 2>&-", 3),
        ("hfmem org/nothing --offline 2>&-", 1),
        ("hfmem org/nothing --offline 2>/dev/full", 1),
        ("hfmem org/nothing --offline >&- 2>&-", 1),
        ("hfmem --bogus 2>&-", 2),
        ("hfmem --bogus 2>/dev/full", 2),
        ("hfmem --help >&-", 0),
        ("hfmem --version >&- 2>&-", 0),
        ("hfmem --list-gpus >&-", 0),
        ("hfmem --list-gpus | head -1", 0),
        ("hfmem --help-all | head -1", 0),
        (f"hfmem {LLAMA} --offline --format json | head -c 1", 0),
        (f"hfmem {LLAMA} org/nothing --offline --format json | head -c 1", 1),
    ],
)
@needs_full
def test_streams_do_not_change_the_exit_code(line: str, code: int, alone: dict[str, str]) -> None:
    assert shell(line, alone).returncode == code


@needs_full
@pytest.mark.parametrize(
    "line", ["--help", "--version", "--list-gpus", f"{LLAMA} --offline", f"{LLAMA} --offline --json"]
)
def test_an_answer_that_is_lost_is_told(line: str, alone: dict[str, str]) -> None:
    line = line.replace("--json", "--format json")
    done = shell(f"hfmem {line} >/dev/full", alone)
    assert (done.returncode, done.stderr) == (1, "The output cannot be written: No space left on device.\n")


def test_errors_stay_off_a_stdout_beside_a_closed_stderr(alone: dict[str, str]) -> None:
    assert shell("hfmem org/nothing --offline --format quiet 2>&-", alone).stdout == ""


def test_a_closed_stream_is_not_the_next_file(alone: dict[str, str], hub: Hub, hub_env: dict[str, str]) -> None:
    """A socket that gets the number of a closed stderr would be sent what is meant for a person."""
    hub.put(single("org/a", CONFIG, ROWS))
    done = shell("hfmem org/a org/nothing --format quiet 2>&-", hub_env)
    assert (done.returncode, done.stdout.partition("\t")[0]) == (1, "org/a")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hfmem --from - --offline <&-", "--from - cannot be read: standard input is closed."),
        ("hfmem --from pipe", "--from pipe cannot be read: it is a named pipe, where a file is expected."),
        ("hfmem --from /dev/zero", "--from /dev/zero cannot be read: it is a device, where a file is expected."),
        ("hfmem --from .", "--from . cannot be read: it is a folder, where a file is expected."),
        ("hfmem --from - </dev/zero", "--from - cannot be read: it is longer than 64 MiB"),
        ("hfmem --from huge", "--from huge cannot be read: it is longer than 64 MiB"),
        (f"hfmem {LLAMA} --from-args pipe", "--from-args pipe cannot be read: it is a named pipe"),
        (f"hfmem {LLAMA} --from-args /dev/zero", "--from-args /dev/zero cannot be read: it is a device"),
        (f"hfmem {LLAMA} --from-args huge", "--from-args huge cannot be read: it is longer than 1 MiB"),
    ],
)
def test_lists_and_training_files_that_are_none(line: str, words: str, alone: dict[str, str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**31)
    started = time.monotonic()
    done = shell(line, alone, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("source", ["<(echo openai-community/gpt2)", "/dev/stdin", "-"])
def test_what_the_shell_opened_may_be_a_pipe(source: str, alone: dict[str, str]) -> None:
    done = shell(f"echo openai-community/gpt2 | hfmem --from {source} --offline --format quiet", alone)
    assert (done.returncode, done.stdout.partition("\t")[0]) == (0, "openai-community/gpt2")


@pytest.mark.parametrize("value", ["http://[bad", "http://[::1"])
def test_an_endpoint_that_is_none(value: str, alone: dict[str, str]) -> None:
    done = shell(f"HF_ENDPOINT='{value}' hfmem org/x", alone)
    assert done.returncode == 1  # of a model of the Hub; the others are answered
    assert f"HF_ENDPOINT is '{value}'" in done.stderr


def test_a_timeout_that_is_none(alone: dict[str, str]) -> None:
    done = shell(f"HF_HUB_DOWNLOAD_TIMEOUT=soon hfmem {LLAMA} --offline", alone)
    assert done.returncode == 2
    assert done.stderr.startswith("HF_HUB_DOWNLOAD_TIMEOUT cannot be read")


@pytest.mark.parametrize(
    "place",
    [
        "env -u HOME -u HF_HOME",
        "env HF_HOME=/dev/null/x",
        "env HF_HOME=/proc/nothing",
        "mkdir gone; cd gone; rmdir ../gone;",
    ],
)
def test_homes_that_are_none(place: str, alone: dict[str, str], tmp_path: Path) -> None:
    line = f"{place} hfmem {LLAMA} --offline --format quiet"
    assert shell(line, alone, tmp_path).stdout == f"{LLAMA}\t16587071488\n"


def test_a_cache_that_cannot_be_written(hub: Hub, hub_env: dict[str, str], tmp_path: Path) -> None:
    hub.put(single("org/a", CONFIG, ROWS))
    (tmp_path / "file").write_text("no folder")
    done = shell(f"env HF_HOME={tmp_path}/file hfmem org/a --format json", hub_env)
    told = f"Warning: cannot download to {tmp_path}/file/hub: the folder cannot be created. Check HF_HOME.\n"
    assert (done.returncode, done.stderr) == (0, told)
    assert json.loads(done.stdout)["results"][0]["source"] == "hub"


@pytest.mark.parametrize("kind", ["pipe", "endless"])
@pytest.mark.parametrize("place", ["record", "ref", "snapshot ref", "token"])
def test_a_cache_that_never_ends(hub: Hub, hub_env: dict[str, str], kind: str, place: str) -> None:
    """A pipe or a device where the cache has its files: it is no cache, and the Hub is asked."""
    repo = single("org/a", CONFIG, ROWS)
    hub.put(repo)
    run("org/a", env=hub_env)
    home = Path(hub_env["HF_HOME"])
    snapshots = home / "hub" / "models--org--a"
    spoilt = {
        "record": next(home.rglob(f"{repo.sha}.json")),
        "ref": next(home.rglob("refs/main")),
        "snapshot ref": snapshots / "refs" / "main",
        "token": home / "token",
    }[place]
    spoilt.parent.mkdir(parents=True, exist_ok=True)
    spoilt.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(spoilt)
    else:
        spoilt.symlink_to("/dev/zero")
    assert run("org/a", "--format", "quiet", env=hub_env).returncode == 0
    assert run("org/a", "--format", "quiet", "--no-cache", env=hub_env).returncode == 0
    run("org/a", "--offline", "--no-cache", env=hub_env)


def test_a_person_who_waits_sees_what_for(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(single("org/a", CONFIG, ROWS), single("org/b", CONFIG, ROWS))
    hub.latency = 0.5
    one = on_terminal("org/a", "--no-cache", env=hub_env, columns=80)
    assert "reading org/a, 00:01" in one.partition("llama")[0]
    several = on_terminal("org/a", "org/b", "--no-cache", env=hub_env, columns=80)
    assert "/2 [00:01" in several.partition("parameters")[0]
    piped = shell("hfmem org/a --no-cache --format quiet", hub_env)
    assert piped.stderr == ""
