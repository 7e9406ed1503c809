"""Long lists: rows in a file as they come, runs that go on, and the Hub's quotas kept."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hfmem.fetcher.budget import Budget
from hfmem.scan.files import opened
from hfmem.scan.progress import ListProgress, duration, sentence
from hfmem.scan.run import Counts
from tests.command import run
from tests.fetcher.test_hub import CONFIG, ROWS
from tests.hub import Hub, json_file, rate_limited, single
from tests.hub.server import Hub as Server

COUNT = 16


def put(hub: Server, count: int, *, size: int = 8) -> list[str]:
    """So many models."""
    models = [single(f"org/m{number}", {**CONFIG, "vocab_size": 10 + number}, ROWS) for number in range(count)]
    hub.put(*models)
    return [model.id for model in models]


def listed(tmp_path: Path, names: Sequence[str]) -> Path:
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(names) + "\n")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(path.read_text())))
    return [json.loads(line) for line in path.read_text().splitlines()]


def infos(hub: Server) -> Counter[str]:
    """How often each model was asked for."""
    return Counter(line.split("/models/")[1] for line in hub.asked("hub") if "/api/models/org/" in line)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_rows_are_written_in_the_order_of_the_list(hub: Hub, tmp_path: Path, name: str) -> None:
    """Duplicates are read once and keep their places; failures are rows with their reason."""
    names = [*put(hub, 3), "org/m1", "org/nothing", "openai-community//x"]
    out = tmp_path / name
    done = run("--from", str(listed(tmp_path, names)), "--out", str(out), "--gpu", "24GB", env=dict(os.environ))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "6 of 6 rows, 2 without an answer (column error)." in done.stderr
    rows = read(out)
    assert [row["asked"] for row in rows] == names
    assert [int(row["line"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["error"] or "" for row in rows] == ["", "", "", "", *["model_not_found_error"] * 2]
    assert {**rows[1], "line": 0} == {**rows[3], "line": 0}
    assert rows[0]["commit"]
    assert rows[0]["options"].strip("'") == "--gpu 24GB"  # in CSV no formula
    assert {str(value) for name, value in rows[0].items() if name.startswith("fits: ")} == {"True"}
    assert infos(hub) == {"org/m0": 1, "org/m1": 1, "org/m2": 1, "org/nothing": 1}


def test_a_run_goes_on_and_asks_nothing_twice(hub: Hub, tmp_path: Path) -> None:
    names, out = put(hub, 6), tmp_path / "out.jsonl"
    line = ("--out", str(out), "--no-cache")
    run("--from", str(listed(tmp_path, names)), *line, env=dict(os.environ))
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:2]) + lines[2][:40])  # as a run that was killed leaves it
    hub.reset()
    assert run("--from", str(listed(tmp_path, names)), *line, env=dict(os.environ)).returncode == 2
    done = run("--from", str(listed(tmp_path, names)), *line, "--resume", env=dict(os.environ))
    assert (done.returncode, out.read_bytes()) == (0, whole)
    assert "6 of 6 rows, 2 were there." in done.stderr
    assert infos(hub) == dict.fromkeys(names[2:], 1)


def test_what_failed_for_a_moment_is_asked_again(hub: Hub, tmp_path: Path) -> None:
    names, out = put(hub, 3), tmp_path / "out.csv"
    line = ("--from", str(listed(tmp_path, names)), "--out", str(out))
    hub.fail("/api/models/org/m1", rate_limited(1, bucket="api"), times=None)
    failed = run(*line, "--no-cache", env=dict(os.environ))
    assert failed.returncode == 1
    assert "Go on with --resume." in failed.stderr
    hub.reset()
    assert run(*line, "--resume", env=dict(os.environ)).returncode == 0
    assert [row["error"] for row in read(out)] == ["", "", ""]
    assert infos(hub) == {"org/m1": 1}


def test_a_changed_commit_replaces_its_row(hub: Hub, tmp_path: Path) -> None:
    names, out = put(hub, 3), tmp_path / "out.jsonl"
    line = ("--from", str(listed(tmp_path, names)), "--out", str(out))
    assert run(*line, env=dict(os.environ)).returncode == 0
    before = read(out)
    hub.put(single("org/m1", CONFIG, [*ROWS, ("extra.weight", "BF16", (4, 4))]))
    done = run(*line, "--resume", env=dict(os.environ))
    assert (done.returncode, "1 have changed" in done.stderr) == (0, True)
    after = read(out)
    assert [one == two for one, two in zip(before, after, strict=True)] == [True, False, True]
    assert int(after[1]["parameters"]) == int(before[1]["parameters"]) + 16


@pytest.mark.parametrize(
    ("changed", "options", "told"),
    [
        (["org/m1", "org/m0"], (), "has the rows of another list"),
        (["org/m0", "org/m1"], ("--batch", "2"), "has the rows of other options"),
        (["org/m0", "org/m1"], ("--gpu", "24GB"), "has the rows of other options"),
    ],
)
def test_the_rows_of_another_run_are_left_alone(
    hub: Hub, tmp_path: Path, changed: list[str], options: tuple[str, ...], told: str
) -> None:
    names, out = put(hub, 2), tmp_path / "out.jsonl"
    run("--from", str(listed(tmp_path, names)), "--out", str(out), env=dict(os.environ))
    before = out.read_bytes()
    done = run(
        "--from", str(listed(tmp_path, changed)), "--out", str(out), "--resume", *options, env=dict(os.environ)
    )  # fmt: skip
    assert (done.returncode, out.read_bytes()) == (2, before)
    assert told in done.stderr


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_a_file_belongs_to_one_run(tmp_path: Path, name: str) -> None:
    """As long as it is open, also after its rows were put in order."""
    first = opened(tmp_path / name, {"line": "integer"})
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            opened(tmp_path / name, {"line": "integer"})
        first.append([{"line": 2}, {"line": 1}], 0)
        first.settle([place for place, _ in first.rows()][::-1])
    first.close()
    later = opened(tmp_path / name, {"line": "integer"})
    assert [int(row["line"]) for _, row in later.rows()] == [1, 2, 2, 1]  # turned round twice
    later.close()


def test_a_run_leaves_the_file_of_another_alone(hub: Hub, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    line = ("--from", str(listed(tmp_path, put(hub, 2))), "--out", str(out), "--resume")
    assert run(*line, env=dict(os.environ)).returncode == 0
    before, file = out.read_bytes(), opened(out, {})
    done = run(*line, env=dict(os.environ))
    file.close()
    assert (done.returncode, out.read_bytes()) == (2, before)
    assert "is being written by another run" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--out", "a.csv", "--trace"), "--out cannot be used with --trace"),
        (("--out", "a.txt"), "a.txt has to end with .parquet, .csv or .jsonl"),
        (("--out", "nowhere/a.csv"), "is in a folder that does not exist"),
        (("--resume",), "--resume needs --out FILE"),
    ],
)
def test_what_cannot_be_written_is_refused(alone: dict[str, str], arguments: tuple[str, ...], told: str) -> None:
    done = run("openai-community/gpt2", *arguments, env=alone)
    assert (done.returncode, told in done.stderr) == (2, True)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="other columns"):
        opened(path, {"line": "integer"})


def test_cells_come_back_as_they_were(tmp_path: Path) -> None:
    """Text that a spreadsheet would take for a formula, and text of several lines, is still one line."""
    file = opened(tmp_path / "out.csv", {"line": "integer", "asked": "text"})
    file.append([{"line": 1, "asked": "=a,b"}, {"line": 2, "asked": 'x\n"y"'}])
    assert [row["asked"] for _, row in file.rows()] == ["=a,b", 'x\\n"y"']
    file.close()


def quotas(hub: Server, api: int, window: float) -> None:
    hub.quotas, hub.window = {"api": api, "resolvers": 6 * api}, window


def test_quotas_are_kept_by_runs_that_are_killed(hub: Hub, tmp_path: Path, hub_env: dict[str, str]) -> None:
    """No request is refused, the quota is used, and every model is read once."""
    names, out = put(hub, COUNT), tmp_path / "out.jsonl"
    quotas(hub, COUNT // 2, 1)
    line = [sys.executable, "-m", "hfmem", "--from", str(listed(tmp_path, names)), "--out", str(out), "--resume"]
    killed(line, out, 3, hub_env)
    last = subprocess.run(line, env=hub_env, capture_output=True, text=True, timeout=60, check=False)
    assert last.returncode == 0, last.stderr
    assert [row["asked"] for row in read(out)] == names
    assert 429 not in {seen.status for seen in hub.requests}
    assert sum(infos(hub).values()) - COUNT <= 16  # those under way when it was killed


@pytest.mark.slow
def test_two_thousand_models_with_the_hubs_quotas(hub: Hub, tmp_path: Path, hub_env: dict[str, str]) -> None:
    """The quotas without an account, in windows of 10 s instead of 300 s; killed three times."""
    count, window = 2000, 10
    names, out, once = put(hub, count), tmp_path / "out.jsonl", tmp_path / "once.jsonl"
    quotas(hub, 500, window)
    line = [sys.executable, "-m", "hfmem", "--from", str(listed(tmp_path, names)), "--resume", "--out"]
    begun = time.monotonic()
    ends = [killed([*line, str(out)], out, rows, hub_env) for rows in (300, 900, 1500)]
    done = subprocess.run([*line, str(out)], env=hub_env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    print(f"{time.monotonic() - begun:.1f} s")
    seen = [each for each in hub.requests if each.port == "hub" and each.path.startswith("/api/models/org/")]
    assert 429 not in {each.status for each in hub.requests}
    used = Counter(int((each.arrived - seen[0].arrived) // window) for each in seen)
    print(dict(used), sum(infos(hub).values()) - count)
    full = max(used)  # the last window, in which no more ids were left
    none = sum(min(each.arrived for each in seen if each.arrived > end + 0.2) - end for end in ends)  # no run reads
    share = sum(used[number] for number in range(full)) / (500 * (full - none / window))
    print(f"{share:.0%} of the budget used while runs read, {none:.1f} s between runs")
    assert share >= 0.9
    assert sum(infos(hub).values()) - count <= 3 * 16
    hub.quotas = {}
    other = {**hub_env, "HF_HOME": str(tmp_path / "other")}
    subprocess.run([*line, str(once)], env=other, check=True, timeout=300)
    bare = [[{**row, "source": ""} for row in read(path)] for path in (out, once)]  # killed ones may be in the cache
    assert bare[0] == bare[1]


def killed(line: list[str], out: Path, rows: int, env: dict[str, str]) -> float:
    """A run that is killed when there are so many rows: when that was."""
    with subprocess.Popen(line, env=env, stderr=subprocess.PIPE) as process:
        for _ in range(3000):
            if out.exists() and out.read_bytes().count(b"\n") >= rows:
                break
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.01)
        process.kill()
        return time.monotonic()


def test_an_interrupted_run_leaves_a_whole_file(hub: Hub, tmp_path: Path, hub_env: dict[str, str]) -> None:
    names, out = put(hub, 12), tmp_path / "out.csv"
    quotas(hub, 4, 30)
    # a process started in the background ignores the signal, and so would those that it starts
    start = (
        "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "sys.argv[0] = 'hfmem'; runpy.run_module('hfmem', run_name='__main__')"
    )
    line = [sys.executable, "-c", start, "--from", str(listed(tmp_path, names)), "--out", str(out)]
    with subprocess.Popen(line, env=hub_env, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(3000):
            if out.exists() and out.read_bytes().count(b"\n") >= 5:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "4 of 12 rows. Go on with --resume." in told
    assert len(read(out)) == 4


def test_a_budget_waits_for_the_next_window(tmp_path: Path) -> None:
    budget, wanted = Budget(tmp_path / "kept" / "q.json"), threading.Event()
    told = {"ratelimit": '"api";r=1;t=1', "ratelimit-policy": '"fixed window";"api";q=5;w=1'}
    assert budget.take("/api/models/a", wanted)
    budget.answered("/api/models/a", told)
    assert budget.take("/api/models/a", wanted)
    assert budget.waits().keys() == {"api"}
    assert 0 < budget.seconds_for(1) <= 2
    budget.close()
    # another run, after this one was killed
    later, begun = Budget(tmp_path / "kept" / "q.json"), time.monotonic()
    assert later.waits().keys() == {"api"}
    assert later.take("/org/a/resolve/main/config.json", wanted)
    assert time.monotonic() - begun < 0.5
    assert later.take("/api/models/a", wanted)
    assert 1 < time.monotonic() - begun < 3
    wanted.set()
    assert not later.take("/api/models/a", wanted)


class Windows:
    """A server with windows, whose answers tell the seconds left in whole numbers, and a clock that a client waits by.

    Args:
        rounded: how it makes whole numbers of them.
        on_demand: whether a window begins with the first request after the one before, and not with its end.
    """

    quota, window, latency = 40, 10, 0.02

    def __init__(self, rounded: Callable[[float], int], begun: float, *, on_demand: bool) -> None:
        self.now, self.begun, self.used, self.refused = 1000.0, begun, 0, 0
        self.rounded, self.on_demand = rounded, on_demand
        self.late: list[float] = []  # seconds from the begin of each window to its first request

    def answer(self) -> dict[str, str]:
        if (passed := self.now - self.begun) >= self.window:
            self.begun = self.now if self.on_demand else self.begun + passed // self.window * self.window
            self.late.append(passed % self.window if passed < 2 * self.window else passed)
            self.used = 0
        self.used += 1
        self.refused += self.used > self.quota
        left, seconds = max(0, self.quota - self.used), self.rounded(self.begun + self.window - self.now)
        return {
            "ratelimit": f'"api";r={left};t={seconds}',
            "ratelimit-policy": f'"fixed window";"api";q={self.quota};w={self.window}',
        }


@pytest.mark.parametrize("on_demand", [False, True])
@pytest.mark.parametrize("rounded", [math.ceil, round, math.floor])
@pytest.mark.parametrize("begun", [1000.0, 993.3, 995.5])
def test_a_window_is_not_asked_too_early_nor_long_after_its_begin(
    rounded: Callable[[float], int], begun: float, on_demand: bool
) -> None:
    """However the server rounds. If up, and the run has seen the begin of a window, later ones are used from theirs."""
    server = Windows(rounded, begun, on_demand=on_demand)
    budget = Budget(clock=lambda: server.now)
    for number in range(5 * server.quota):
        path = f"/api/models/{number}"
        while seconds := budget.ask(path):
            server.now += seconds
        server.now += server.latency
        told = server.answer()
        server.now += server.latency
        budget.answered(path, told)
        server.now += 0.05
    assert server.refused == 0
    assert len(server.late) >= 4
    exact = rounded is math.ceil and (on_demand or begun == 1000)
    assert max(server.late[1:]) <= (0.15 if exact else 1.2)


def test_a_mirror_without_quotas_is_not_waited_for() -> None:
    budget, wanted = Budget(), threading.Event()
    for _ in range(100):
        assert budget.take("/api/models/a", wanted)
        budget.answered("/api/models/a", {})
    assert not budget.waits()


class _Stream(io.StringIO):
    def isatty(self) -> bool:
        return False


def test_progress_is_a_line_a_minute() -> None:
    now, told = [0.0], []
    progress = ListProgress(_Stream(), told.append, clock=lambda: now[0])
    counts = Counts(total=1000, models=1000)
    for second in range(0, 181, 10):
        now[0] = float(second)
        counts.done = counts.asked = second
        progress.show(counts)
    assert told == [
        "60 of 1,000 models. about 16 min left",
        "120 of 1,000 models. about 15 min left",
        "180 of 1,000 models. about 14 min left",
    ]
    counts.waits, counts.failed = {"api": 90.0}, 2
    assert sentence(counts, 7200.0) == (
        "180 of 1,000 models. 2 failed, no API requests for 1 min 30 s: the Hub's quota is used up, about 2 h left"
    )
    assert duration(400_000) == "5 days"


@pytest.mark.extras
def test_parquet_goes_on_too(hub: Hub, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    names, out = put(hub, 5), tmp_path / "out.parquet"
    assert run("--from", str(listed(tmp_path, names[:3])), "--out", str(out), env=dict(os.environ)).returncode == 0
    first = parquet.read_table(out).to_pylist()
    assert [row["asked"] for row in first] == names[:3]
    done = run("--from", str(listed(tmp_path, names)), "--out", str(out), "--resume", env=dict(os.environ))
    assert "5 of 5 rows, 3 were there." in done.stderr
    table = parquet.read_table(out)
    assert table.to_pylist()[:3] == first
    assert table.column("line").to_pylist() == [1, 2, 3, 4, 5]
    assert not (tmp_path / ".out.parquet.rows").exists()


def test_a_changed_config_is_seen(hub: Hub, tmp_path: Path) -> None:
    """A new commit of a repository that was a failure."""
    out = tmp_path / "out.jsonl"
    hub.put(single("org/broken", b"{", ROWS).without("model.safetensors"))
    line = ("org/broken", "--out", str(out))
    assert run(*line, env=dict(os.environ)).returncode == 1
    hub.put(single("org/broken", None, ROWS).put(json_file("config.json", CONFIG)))
    assert run(*line, "--resume", env=dict(os.environ)).returncode == 0
    assert read(out)[0]["error"] is None
