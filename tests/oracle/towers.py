"""Records fixtures/oracle/towers.json: peaks of vision towers at sizes that no fit has seen.

python -m tests.oracle.towers [TYPE ...]
"""

from __future__ import annotations

import gc
import json
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from hfmem.estimator.activations.towers import highest_of

RECORDED: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "towers.json"
TABLE: Final = Path(__file__).parents[2] / "hfmem" / "data" / "towers.jsonl"
SEEDS: Final = (101, 102, 103)
DEPTH: Final = 6


def rows() -> list[dict[str, Any]]:
    """The measured polynomials."""
    return [json.loads(line) for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]]


def apart(row: Mapping[str, Any], seen: Iterable[Mapping[str, Any]], depth: int) -> list[float]:
    """How far the polynomials of a row are from peaks of a class with so many layers, as shares of these."""
    said = [(highest_of(row, each["sizes"], depth)[1], each["peak"]) for each in seen]
    return [abs(peak / real - 1) for peak, real in said]


def measure(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Sizes, and bytes at the peak of the real class, with more layers than were fitted."""
    from hfmem.estimator.activations.polynomials import Polynomial
    from hfmem.probe import towers

    named = {name for peak in row["peaks"] for name in Polynomial.parse(peak).names}
    found = (towers.tried(row["type"], seed, row["attention"], DEPTH) for seed in SEEDS)
    return [
        {"sizes": {**one.sizes, **{key: n for key, n in one.extents.items() if key in named}}, "peak": one.peak()}
        for one in found
        if one is not None
    ]


def main() -> int:
    """Record every row, or those of the types that are named."""
    from hfmem.probe import towers  # noqa: F401 - what is imported is not searched again in each run

    warnings.simplefilter("ignore")
    gc.freeze()
    kept = json.loads(RECORDED.read_text(encoding="utf-8"))["rows"] if RECORDED.exists() else {}
    source = json.loads(TABLE.read_text(encoding="utf-8").splitlines()[0])["source"]
    for row in rows():
        name = f"{row['type']} {row['attention']}"
        if sys.argv[1:] and row["type"] not in sys.argv[1:]:
            continue
        kept[name] = measure(row)
        print(name, len(kept[name]), flush=True)
        _write(source, kept)
    return 0


def _write(source: str, kept: dict[str, Any]) -> None:
    body = json.dumps({"source": source, "depth": DEPTH, "rows": dict(sorted(kept.items()))}, separators=(",", ":"))
    RECORDED.write_text(body.replace("]," + '"', "],\n" + '"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
