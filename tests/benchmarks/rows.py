"""How many configs a second `estimate_batch` answers, and whether its memory stays flat.

    python -m tests.benchmarks.rows [--rows 100000] [--processes 2]

Every row is a config of its own: one of 60 types of the catalog, with other sizes of what every type may have in any
number (the width of its feed-forward layers, its vocabulary), so that no row is answered by what was kept of another.
Each process answers its share in tables of 1,000 rows, as a worker of Ray or Spark does.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from hfmem.fetcher import catalog
from hfmem.fetcher.values import ModelRef

TYPES: Final = 60
PART: Final = 1000
SIZES: Final = ("intermediate_size", "ffn_dim", "n_inner", "moe_intermediate_size", "vocab_size")


def types() -> list[dict[str, Any]]:
    """A config of each type of the catalog that has an answer, up to 60."""
    found: dict[str, dict[str, Any]] = {}
    for name in catalog.originals():
        checkpoint = catalog.find(ModelRef(model_id=name))
        config = dict(checkpoint.config or {}) if checkpoint else {}
        if config.get("architectures") and any(size in json.dumps(config) for size in SIZES):
            found.setdefault(config["model_type"], config)
    return list(found.values())[:TYPES]


def perturbed(config: Any, dice: random.Random) -> Any:
    """The config with other sizes."""
    if not isinstance(config, dict):
        return config
    return {
        key: value + 128 * dice.randrange(1, 2000) if key in SIZES and type(value) is int else perturbed(value, dice)
        for key, value in config.items()
    }


def tables(rows: int, seed: int) -> Iterator[Any]:
    """The tables of one process."""
    import pyarrow

    dice, kinds = random.Random(seed), types()
    for start in range(0, rows, PART):
        numbers = range(start, min(rows, start + PART))
        configs = [json.dumps(perturbed(kinds[number % len(kinds)], dice)) for number in numbers]
        yield pyarrow.table({"id": [f"org/m{number}" for number in numbers], "config": configs})


def answered(share: tuple[int, int]) -> tuple[float, float, int, int, int]:
    """Seconds of the clock and of the processor, failures, and the peak of memory in MiB after the first table and in
    the end; of so many rows."""
    from hfmem.scan import estimate_batch

    rows, seed = share
    clock = processor = 0.0
    failed = early = 0
    for table in tables(rows, seed):
        begun, used = time.monotonic(), time.process_time()
        found = estimate_batch(table, seq=8192, dtype="bfloat16", offline=True)
        clock, processor = clock + time.monotonic() - begun, processor + time.process_time() - used
        failed += len(found) - found.column("error").null_count
        early = early or peak()
    return clock, processor, failed, early, peak()


def peak() -> int:
    """The peak of resident memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main() -> None:
    """Print what was measured."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--processes", type=int, default=2)
    asked = options.parse_args()
    shares = [(asked.rows // asked.processes, seed) for seed in range(asked.processes)]
    with ProcessPoolExecutor(asked.processes) as pool:
        found = list(pool.map(answered, shares))
    rows = sum(share for share, _ in shares)
    clock, processor = max(each[0] for each in found), sum(each[1] for each in found)
    print(f"{rows:,} rows of {len(types())} types, {sum(each[2] for each in found):,} without an answer")
    print(f"{rows / clock:,.0f} rows a second by the clock, {rows / processor:,.0f} per second of one processor")
    early, late = max(each[3] for each in found), max(each[4] for each in found)
    print(f"peak of memory: {early} MiB after the first table, {late} in the end")


if __name__ == "__main__":
    main()
