"""What a table of all public models of a task takes: requests, hours at each quota, and its size.

    python -m tests.benchmarks.dataset [--models 300] [--sharded 0.2] [--ids 2000000]

Lists the ids of a local Hub and writes their table as `docs/scale.md` has it, with quotas and a window that are both
smaller than the Hub's. Requests of a model are counted, how much of the quota is used is measured, and from these the
hours at the Hub's own quotas are computed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pyarrow import parquet

from tests.hub import Hub, Repo, sharded, single
from tests.hub.site import bucket_of

_QUOTAS: Final = {"without an account": (500, 3000), "free account": (1000, 5000), "PRO": (2500, 12000)}
"""Requests to the API and for files in five minutes (the Hub's documentation of its rate limits, 2026)."""
_WINDOW: Final = 300  # seconds
_SMALL: Final = {"api": 100, "resolvers": 500}  # those of a free account, a tenth
_SHORT: Final = 3.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A table that was made: seconds, requests by bucket, bytes and columns of the file."""

    seconds: float
    asked: Counter[str]
    nbytes: int
    columns: int


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.dataset", description=__doc__)
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--sharded", type=float, default=0.2, help="share of models in several shards")
    parser.add_argument("--ids", type=int, default=2_000_000, help="models that the hours are computed for")
    asked = parser.parse_args()
    run = _made(asked.models, asked.sharded)
    windows = math.ceil(run.asked["api"] / _SMALL["api"])
    used = run.asked["api"] / _SMALL["api"] / (run.seconds / _SHORT)
    each = {bucket: run.asked[bucket] / asked.models for bucket in _SMALL}
    print(f"{asked.models} models, {asked.sharded:.0%} in shards: {run.seconds:.1f} s, {windows} windows begun;")
    print(f"requests a model: {each['api']:.2f} to the API, {each['resolvers']:.2f} for files; quota used: {used:.0%}")
    print(f"Parquet: {run.columns} columns, {run.nbytes / asked.models:.0f} B a model, which are alike here")
    for name, (api, files) in _QUOTAS.items():
        windows_needed = asked.ids * max(each["api"] / api, each["resolvers"] / files)
        listing = math.ceil(asked.ids / 1000)
        hours = (windows_needed + listing / api) * _WINDOW / 3600
        measured = hours / min(used, 1)
        print(f"{asked.ids:,} models {name}: {hours:,.0f} hours at the whole quota, {measured:,.0f} as measured")
    return 0


def _made(models: int, share: float) -> _Run:
    repos = list(_repos(models, share))
    with tempfile.TemporaryDirectory() as folder, Hub(repos, quotas=_SMALL, window=_SHORT) as hub:
        place = Path(folder)
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(place / "home")}
        listed = subprocess.run(
            [sys.executable, "-m", "hfmem.probe.ids", "text-generation"],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert sorted(listed.stdout.split()) == sorted(repo.id for repo in repos)
        (place / "ids.txt").write_text(listed.stdout, encoding="utf-8")
        hub.reset()
        begun = time.perf_counter()
        out = place / "table.parquet"
        subprocess.run(
            [sys.executable, "-m", "hfmem", "--from", str(place / "ids.txt"), "--out", str(out)],
            env=environment, check=True, capture_output=True,
        )  # fmt: skip
        seconds = time.perf_counter() - begun
        asked = Counter(bucket_of(seen.path) for seen in hub.requests if seen.port == "hub")
        table = parquet.read_metadata(out)
        assert table.num_rows == models
        return _Run(seconds=seconds, asked=asked, nbytes=out.stat().st_size, columns=table.num_columns)


def _repos(models: int, share: float) -> list[Repo]:
    """Models like one that is in a single file, and some of them in three shards."""
    folder = Path(__file__).parents[2] / "fixtures" / "HuggingFaceTB--SmolLM2-135M-Instruct"
    table = json.loads((folder / "tensors.json").read_text(encoding="utf-8"))
    config = (folder / "config.json").read_bytes()
    rows = [(name, dtype, tuple(shape)) for name, dtype, shape in table["tensors"]]
    whole, parts = single("org/whole", config, rows), sharded("org/parts", config, rows, 3)
    split = round(models * share)
    return [replace(parts if number < split else whole, id=f"org/model-{number}") for number in range(models)]


if __name__ == "__main__":
    sys.exit(main())
