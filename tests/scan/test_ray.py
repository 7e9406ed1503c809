"""Long lists on a Ray cluster: parts of Parquet, the Hub's quotas shared, and workers that die."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.command import run
from tests.fetcher.test_hub import CONFIG, ROWS, SECRET
from tests.hub import Hub, single
from tests.scan.test_out import infos, listed, put, quotas

pytestmark = pytest.mark.scale

_LONGEST = 240  # seconds of a run


@pytest.fixture
def cluster(hub_env: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a cluster with two workers, which `ray start` has started."""
    pytest.importorskip("ray")
    # a token of its own, as Ray else leaves one in the home
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    env = {
        **hub_env,
        **token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        line = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2"]
        line += ["--port", str(port), "--include-dashboard", "false", "--temp-dir", folder]
        with subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                yield {**env, "RAY_ADDRESS": f"127.0.0.1:{port}"}
            finally:
                process.terminate()
                process.wait(60)
                until(lambda: not processes(env, b"ray"))


def started(names: Path, out: Path, env: dict[str, str], *more: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "hfmem", "--from", str(names), "--out", str(out), "--executor", "ray", *more]
    return subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def processes(env: dict[str, str], name: bytes = b"ray::_read") -> list[int]:
    """The processes of this cluster with this in their command: those that read a part now."""
    found, mine = [], f"HF_HOME={env['HF_HOME']}\0".encode()
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if name in (process / "cmdline").read_bytes() and mine in (process / "environ").read_bytes():
                    found.append(int(process.name))
            except OSError:  # it has ended
                continue
    return found


def rows(out: Path) -> list[dict[str, Any]]:
    """The rows of all parts, in the order of the list."""
    table = pytest.importorskip("pyarrow.parquet").read_table(out)
    found: list[dict[str, Any]] = table.sort_by("line").to_pylist()
    return found


def until(met: Any, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it has not come to that"
        time.sleep(0.05)


def test_two_thousand_models_of_which_a_worker_dies(hub: Hub, tmp_path: Path, cluster: dict[str, str]) -> None:
    """Two workers, the quotas without an account in windows of 10 s instead of 300 s: nothing lost, nothing twice, no
    request too many."""
    count, window = 2000, 10
    names, out = put(hub, count), tmp_path / "out.parquet"
    quotas(hub, 500, window)
    with started(listed(tmp_path, names), out, cluster) as process:
        until(lambda: sum(infos(hub).values()) > 700 and len(processes(cluster)) == 2)
        os.kill(processes(cluster)[0], signal.SIGKILL)
        printed, told = process.communicate(timeout=_LONGEST)
    assert (process.returncode, printed) == (0, ""), told
    assert "2,000 of 2,000 rows." in told
    found = rows(out)
    assert [row["line"] for row in found] == [*range(1, count + 1)]
    assert [row["asked"] for row in found] == names
    assert {row["error"] for row in found} == {None}
    assert 429 not in {seen.status for seen in hub.requests}
    assert sum(infos(hub).values()) - count <= 50  # the part that was done again
    used = [spent["api"] for spent in hub.spent]
    print(used)
    assert max(used) <= 500  # in the Hub's own windows, which begin a little after the first request has arrived


def test_a_run_goes_on(hub: Hub, tmp_path: Path, cluster: dict[str, str]) -> None:
    """The whole run is killed; another asks for what is missing, and a third for what has changed."""
    names, out = [*put(hub, 300), "org/m7", "org/nothing"], tmp_path / "out.parquet"
    quotas(hub, 150, 5)
    with started(listed(tmp_path, names), out, cluster, "--no-cache") as process:
        until(lambda: out.is_dir() and len([*out.glob("part-*")]) >= 2)
        process.kill()
    until(lambda: not processes(cluster))
    assert (before := rows(out))
    hub.reset()
    hub.quotas = {}
    with started(listed(tmp_path, names), out, cluster, "--resume", "--no-cache") as process:
        _, told = process.communicate(timeout=_LONGEST)
    assert f"302 of 302 rows, {len(before)} were there, 1 without an answer (column error)." in told
    after = rows(out)
    assert [row["asked"] for row in after] == names
    assert {**after[7], "line": 0} == {**after[300], "line": 0}
    assert after[301]["error"] == "model_not_found_error"
    assert sum(infos(hub).values()) == len({*names} - {row["asked"] for row in before})
    hub.put(*(single(name, CONFIG, [*ROWS, ("extra.weight", "BF16", (4, 4))]) for name in names[:2]))
    with started(listed(tmp_path, names), out, cluster, "--resume", "--no-cache") as process:
        _, told = process.communicate(timeout=_LONGEST)
    assert "302 of 302 rows, 302 were there, 2 have changed" in told
    last = rows(out)
    assert [row["line"] for row in last] == [*range(1, 303)]
    assert [one == two for one, two in zip(after, last, strict=True)] == [False, False, *[True] * 300]


def test_a_file_and_a_folder_of_parts_are_told_apart(hub: Hub, tmp_path: Path, hub_env: dict[str, str]) -> None:
    """Before a cluster is asked for."""
    names = listed(tmp_path, put(hub, 2))
    file, folder = tmp_path / "file.parquet", tmp_path / "folder.parquet"
    assert run("--from", str(names), "--out", str(file), env=hub_env).returncode == 0
    folder.mkdir()
    (folder / "part-000000.parquet").write_bytes(file.read_bytes())
    for out, more, told in (
        (file, ("--executor", "ray"), "is one file, and --executor ray writes a folder of parts"),
        (folder, (), "is a folder of parts: go on with --executor ray"),
    ):
        done = run("--from", str(names), "--out", str(out), "--resume", *more, env=hub_env)
        assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_a_cluster_that_is_not_there(hub: Hub, tmp_path: Path, hub_env: dict[str, str]) -> None:
    names, out = listed(tmp_path, put(hub, 2)), tmp_path / "out.parquet"
    with started(names, out, {**hub_env, "RAY_ADDRESS": "127.0.0.1:9"}) as process:
        _, told = process.communicate(timeout=_LONGEST)
    assert process.returncode == 2
    assert "no cluster at RAY_ADDRESS=127.0.0.1:9" in told


def test_the_login_of_the_one_who_runs_it_counts(hub: Hub, tmp_path: Path, cluster: dict[str, str]) -> None:
    """The workers have none."""
    hub.put(replace(single("org/mine", CONFIG, ROWS), private=True))
    hub.site.tokens = {SECRET: {"org/mine"}}
    names, out = listed(tmp_path, ["org/mine"]), tmp_path / "out.parquet"
    home = tmp_path / "login"
    home.mkdir()
    (home / "token").write_text(SECRET)
    with started(names, out, {**cluster, "HF_HOME": str(home)}) as process:
        _, told = process.communicate(timeout=_LONGEST)
    assert process.returncode == 0, told
    assert [row["error"] for row in rows(out)] == [None]


_DATA = """
import pyarrow, ray
from hfmem.scan import estimate_batch

ids = pyarrow.table({"id": ["openai-community/gpt2", "Qwen/Qwen3-8B"] * 4})
ray.init(log_to_driver=False)
data = ray.data.from_arrow(ids).repartition(4)
found = data.map_batches(estimate_batch, batch_format="pyarrow", fn_kwargs={"offline": True})
rows = [row for row in found.take_all()]
whole = estimate_batch(ids, offline=True).to_pylist()
assert sorted(row["total"] for row in rows) == sorted(row["total"] for row in whole) and len(rows) == 8
print("as one")
"""


def test_ray_data_calls_it_for_each_block(cluster: dict[str, str]) -> None:
    line = [sys.executable, "-c", _DATA]
    done = subprocess.run(line, env=cluster, capture_output=True, text=True, timeout=_LONGEST, check=False)
    assert done.stdout.endswith("as one\n"), done.stderr
