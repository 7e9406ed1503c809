"""How long reading a model without the Hub takes, and mapping it to its layers and weights, over the catalog.

    python -m tests.benchmarks.mapping [--only WORD] [--limit 5]

Each model is read once and mapped once, in the state of a process that has answered one before: from the catalog, then
from the cache, into which what the catalog has was written as an answer of the Hub is. Processor time, as other work on
the machine is none of a model's. Prints a Markdown table of medians with the middle half and the slowest; exit code 1
where a median is above the limit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

FIRST = "openai-community/gpt2"
COMMIT = "0" * 40


def main() -> int:
    """Measure both roads and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.mapping", description=__doc__)
    parser.add_argument("--only", default="", help="models whose id has this in it")
    parser.add_argument("--limit", type=float, default=5.0, help="milliseconds that each median may take")
    args = parser.parse_args()
    met = True
    with tempfile.TemporaryDirectory() as home:
        os.environ["HF_HOME"] = home  # before the client reads it
        print("| read from | models | median | middle half | slowest |\n|---|---|---|---|---|")
        for name, measured in (("catalog", dict(_catalogued(args.only))), ("cache", dict(_cached(args.only)))):
            met &= _told(name, measured) <= args.limit
    return 0 if met else 1


def _told(name: str, measured: dict[str, float]) -> float:
    times = list(measured.values())
    low, median, high = statistics.quantiles(times, n=4)
    slowest = sorted(measured, key=lambda model: -measured[model])[:3]
    last = ", ".join(f"{model} {measured[model]:.0f} ms" for model in slowest)
    print(f"| {name} | {len(times)} | {median:.2f} ms | {low:.2f}–{high:.2f} ms | {last} |", flush=True)
    return median


def _catalogued(only: str) -> Iterator[tuple[str, float]]:
    from hfmem.fetcher import catalog
    from hfmem.fetcher.values import ModelRef

    return _timed(only, lambda model: catalog.find(ModelRef(model_id=model)))


def _cached(only: str) -> Iterator[tuple[str, float]]:
    from hfmem.fetcher import cache, catalog
    from hfmem.fetcher.values import ModelRef

    for model in catalog.originals():
        found = catalog.find(ModelRef(model_id=model))
        if found is not None:
            cache.save(replace(found, source="hub", commit=COMMIT))
    return _timed(only, lambda model: cache.load(ModelRef(model_id=model)))


def _timed(only: str, read: Callable[[str], object]) -> Iterator[tuple[str, float]]:
    """Milliseconds of each model that can be read so."""
    from hfmem.fetcher.catalog import originals
    from hfmem.fetcher.values import Checkpoint
    from hfmem.mapper.adapted import understood

    for model in (FIRST, *originals()):
        started = time.process_time()
        found = read(model)
        if not isinstance(found, Checkpoint):
            continue
        understood(found)
        if only in model and model != FIRST:
            yield model, (time.process_time() - started) * 1000


if __name__ == "__main__":
    sys.exit(main())
