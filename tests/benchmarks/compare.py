"""How long hfmem takes, beside hf-mem on the same local Hub, the bare imports, and another state of itself.

    python -m tests.benchmarks.compare --rival-python PATH [--python PATH] [--runs 15] [--latency 0.04] [--only WORD]
    python -m tests.benchmarks.compare --before PATH     # an interpreter with another hfmem: time and memory of both

Whole processes from start to exit, the contenders of a row in turn, medians with the middle half, and processor time,
which other work on the machine disturbs less. Every answer of the Hub, which runs in a process of its own, comes after
the same latency. hf-mem knows only the real Hub's address, so a wrapper of a few lines sends its requests to the local
one. Prints a Markdown table; exit code 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from resource import struct_rusage
from typing import IO, Final

ROOT: Final = Path(__file__).parents[2]

WRAPPER: Final = """
import sys
import httpx2
address, get = sys.argv.pop(1), httpx2.AsyncClient.get
def redirected(self, url, **options):
    return get(self, url.replace("https://huggingface.co", address, 1), **options)
httpx2.AsyncClient.get = redirected
from hf_mem.cli import main
main()
"""
BARE: Final = "import typer, huggingface_hub.hf_api"
TYPER: Final = "import typer"

SINGLE: Final = "HuggingFaceTB/SmolLM2-135M-Instruct"
LARGE: Final = "deepseek-ai/DeepSeek-V3"
SEVERAL: Final = (
    SINGLE,
    "openai-community/gpt2",
    "google-bert/bert-base-uncased",
    "sentence-transformers/all-MiniLM-L6-v2",
    "meta-llama/Llama-2-7b-hf",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "Qwen/Qwen3-30B-A3B",
)
ALIASES: Final = {
    "bench/smollm2-a": SINGLE,
    "bench/smollm2-b": SINGLE,
    "bench/gpt2-a": "openai-community/gpt2",
    "bench/bert-a": "google-bert/bert-base-uncased",
    "bench/llama-2-a": "meta-llama/Llama-2-7b-hf",
}
TWELVE: Final = (*SEVERAL, *ALIASES)

Command = list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """What is run and timed as one.

    Attributes:
        name: in the table.
        commands: one process after another.
        folder: one that is kept, with the Hugging Face home in it; None gives each run an empty one.
    """

    name: str
    commands: list[Command]
    folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row of the table.

    Attributes:
        name: what is compared.
        ours: hfmem.
        other: what it is held against.
        goal: in words.
        limit: the slowest median that meets the goal, from the other's median; both in seconds.
    """

    name: str
    ours: Contender
    other: Contender
    goal: str
    limit: Callable[[float], float]


@dataclass(slots=True)
class Times:
    """Measurements of one contender: seconds, processor seconds, peak resident bytes and requests of each run."""

    seconds: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle run, in seconds."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        low, _, high = statistics.quantiles(self.seconds, n=4) if len(self.seconds) > 1 else self.seconds * 3
        requests = f", {statistics.median_low(self.requests)} requests" if any(self.requests) else ""
        busy = f", processor {statistics.median(self.busy) * 1000:.0f} ms"
        memory = f", {statistics.median(self.memory) / 2**20:.0f} MiB"
        return f"{self.median * 1000:.0f} ms ({low * 1000:.0f}–{high * 1000:.0f}){busy}{memory}{requests}"


class Server:
    """The local Hub in a process of its own."""

    def __init__(self, latency: float) -> None:
        folders = [model.replace("/", "--") for model in (*SEVERAL, LARGE)]
        aliases = [f"--alias={name}={model.replace('/', '--')}" for name, model in ALIASES.items()]
        command = [sys.executable, "-m", "tests.hub", *folders, *aliases, f"--latency={latency}", "--open"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.url: str = json.loads(_pipe(self._process.stdout).readline())["url"]

    def requests(self) -> int:
        """How many came since the last call, redirects included."""
        _pipe(self._process.stdin).write("count\n")
        counted: Mapping[str, int] = json.loads(_pipe(self._process.stdout).readline())
        return counted["hub"] + counted["cdn"]

    def stop(self) -> None:
        """Close the Hub."""
        _pipe(self._process.stdin).close()
        self._process.wait(timeout=10)
        _pipe(self._process.stdout).close()


def main() -> int:
    """Run the chosen rows and print the table."""
    args = _arguments()
    cases_met = True
    with _server(args.latency) as server, tempfile.TemporaryDirectory() as kept:
        print(f"{_machine()}; {args.latency * 1000:.0f} ms before every answer; {args.runs} runs each.\n")
        print("| case | hfmem | beside it | ratio | goal | met |\n|---|---|---|---|---|---|")
        for case in _cases(args, server.url, Path(kept)):
            if re.search(args.only, case.name):
                ours, other = _measure(case, server, args.runs)
                met = ours.median <= case.limit(other.median)
                cases_met &= met
                print(_row(case, ours, other, met), flush=True)
    return 0 if cases_met else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compare", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has hfmem")
    parser.add_argument("--rival-python", help="interpreter that has hf-mem; without it only the start-up is compared")
    parser.add_argument("--before", help="interpreter that has another hfmem; it alone is compared then")
    parser.add_argument("--rival-arguments", default="", help='more for hf-mem, as "--experimental"')
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--latency", type=float, default=0.04, help="seconds")
    parser.add_argument("--only", default="", help="rows whose name has this in it, a regular expression")
    return parser.parse_args()


def _cases(args: argparse.Namespace, url: str, kept: Path) -> list[Case]:
    if args.before:
        return _before_cases(args, kept)
    start = _start_cases(args.python, kept, args.latency)
    return [*_rival_cases(args, url, kept), *start] if args.rival_python else start


def _rival_cases(args: argparse.Namespace, url: str, kept: Path) -> list[Case]:
    """Against hf-mem, which has no cache: both without, then hfmem with a model that it has answered before."""
    command = [args.python, "-m", "hfmem"]
    hfmem = [*command, "--no-cache"]
    rival = [args.rival_python, "-c", WRAPPER, url, *args.rival_arguments.split(), "--model-id"]
    name = f"hf-mem {_version(args.rival_python)}"
    folder = kept / "beside"
    folder.mkdir()
    cached = [
        Case(
            name=f"cached model{words}",
            ours=Contender(name="hfmem", commands=[[*command, SINGLE, *option]], folder=folder),
            other=Contender(name=name, commands=[[*rival, SINGLE]]),
            goal="at most 0.5",
            limit=lambda other: other * 0.5,
        )
        for words, option in (("", []), (", --offline", ["--offline"]))  # the first fills the cache
    ]
    return [
        Case(
            name="model in one file",
            ours=Contender(name="hfmem", commands=[[*hfmem, SINGLE]]),
            other=Contender(name=name, commands=[[*rival, SINGLE]]),
            goal="at most 0.75",
            limit=lambda other: other * 0.75,
        ),
        Case(
            name="model in 163 shards",
            ours=Contender(name="hfmem", commands=[[*hfmem, LARGE]]),
            other=Contender(name=name, commands=[[*rival, LARGE]]),
            goal="at most 0.15",
            limit=lambda other: other * 0.15,
        ),
        Case(
            name="12 models",
            ours=Contender(name="hfmem", commands=[[*hfmem, *TWELVE]]),
            other=Contender(name=f"12 × {name}", commands=[[*rival, model] for model in TWELVE]),
            goal="at most 0.07",
            limit=lambda other: other * 0.07,
        ),
        *cached,
    ]


def _before_cases(args: argparse.Namespace, kept: Path) -> list[Case]:
    """Against another state of the code: starts, a cached model, the catalog's models, and training."""
    folders = {"hfmem": kept / "after", "before": kept / "before"}
    for folder in folders.values():
        folder.mkdir()
    llama = "meta-llama/Llama-2-7b-hf"
    runs = {
        "--version": ["--version"],
        "--help": ["--help"],
        "cached, online": [SINGLE],
        "cached, --offline": [SINGLE, "--offline"],
        "catalog": [llama, "--offline"],
        "catalog, GPU": [llama, "--offline", "--gpu", "H100"],
        "catalog, vLLM": [llama, "--offline", "--runtime", "vllm", "--gpu", "H100"],
        "catalog, training": [llama, "--offline", "--train", "full"],
        "12 models": ["--no-cache", *TWELVE],
        "163 shards": ["--no-cache", LARGE],
    }
    return [
        Case(
            name=name,
            ours=Contender(name="hfmem", commands=[[args.python, "-m", "hfmem", *run]], folder=folders["hfmem"]),
            other=Contender(name="before", commands=[[args.before, "-m", "hfmem", *run]], folder=folders["before"]),
            goal="no slower, 5 % allowed",
            limit=lambda other: other * 1.05,
        )
        for name, run in runs.items()
    ]


def _start_cases(python: str, kept: Path, latency: float) -> list[Case]:
    """Against the imports that no command line on top of these libraries can do without."""
    bare = Contender(name="imports", commands=[[python, "-c", BARE]])
    hfmem = [python, "-m", "hfmem"]
    cached = Contender(name="hfmem", commands=[[*hfmem, SINGLE]], folder=kept)
    offline = Contender(name="hfmem", commands=[[*hfmem, SINGLE, "--offline"]], folder=kept)
    about = [
        Case(
            name=option,
            ours=Contender(name="hfmem", commands=[[*hfmem, option]]),
            other=Contender(name=TYPER, commands=[[python, "-c", TYPER]]),
            goal="at most 1.4: 70 ms where it takes 50",
            limit=lambda other: other * 1.4,
        )
        for option in ("--version", "--help")
    ]
    online = Case(
        name="cached, online",
        ours=cached,
        other=bare,
        goal="one round trip more",
        limit=lambda other: other + latency,
    )
    # The run online fills the cache for the one offline.
    return [
        *about,
        online,
        Case(name="cached, --offline", ours=offline, other=bare, goal="no slower", limit=lambda other: other),
    ]


def _measure(case: Case, server: Server, runs: int) -> tuple[Times, Times]:
    """Both contenders in turn, each first in every other round, after one round that is not counted."""
    ours, other = Times(), Times()
    pairs = [(case.ours, ours), (case.other, other)]
    for round_number in range(runs + 1):
        for contender, times in pairs if round_number % 2 else reversed(pairs):
            server.requests()
            seconds, busy, memory = _run(contender, server.url)
            requests = server.requests()
            if round_number:
                times.seconds.append(seconds)
                times.busy.append(busy)
                times.memory.append(memory)
                times.requests.append(requests)
    return ours, other


def _run(contender: Contender, url: str) -> tuple[float, float, int]:
    """Seconds of one run, from the start of the first process to the end of the last; processor seconds of all; and
    the most resident bytes."""
    folder = contender.folder or Path(tempfile.mkdtemp(prefix="compare-"))
    environment = _environment(url, folder / "home")
    try:
        started = time.perf_counter()
        ended = [_finish(command, environment, folder) for command in contender.commands]
        seconds = time.perf_counter() - started
        return seconds, sum(usage.ru_utime + usage.ru_stime for usage in ended), max(u.ru_maxrss for u in ended) * 1024
    finally:
        if contender.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


def _finish(command: Command, environment: Mapping[str, str], folder: Path) -> struct_rusage:
    """One process to its end: what it used.

    Raises:
        SystemExit: it failed, so its time means nothing.
    """
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=printed, stderr=printed)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            printed.seek(0)
            raise SystemExit(f"{command} failed with {process.returncode}:\n{printed.read()[-2000:].decode()}")
    return usage


def _environment(url: str, home: Path) -> dict[str, str]:
    """This one, without what would lead either contender elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    return {**kept, "HF_ENDPOINT": url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def _row(case: Case, ours: Times, other: Times, met: bool) -> str:
    ratio = f"{ours.median / other.median:.2f}"
    ratio += f" (processor {statistics.median(ours.busy) / statistics.median(other.busy):.2f})"
    return f"| {case.name} | {ours} | {case.other.name}: {other} | {ratio} | {case.goal} | {'yes' if met else 'no'} |"


def _version(python: str) -> str:
    code = "from importlib.metadata import version; print(version('hf-mem'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _machine() -> str:
    return f"{os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}"


@contextmanager
def _server(latency: float) -> Iterator[Server]:
    server = Server(latency)
    try:
        yield server
    finally:
        server.stop()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


if __name__ == "__main__":
    sys.exit(main())
