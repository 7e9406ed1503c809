"""Writes `fixtures/oracle/{optimizers,lora}.json`: `python -m tests.oracle.record_training [optimizers] [lora]`.

What needs a package that is not installed here stays as it was recorded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.oracle import adapters, optimizers

FIXTURES = Path(__file__).parents[2] / "fixtures" / "oracle"


def main() -> None:
    """Measure everything that is installed."""
    asked = sys.argv[1:] or ["optimizers", "lora"]
    if "optimizers" in asked:
        _optimizers()
    if "lora" in asked:
        counts = {"versions": adapters.versions(), "rank": adapters.RANK, "trainable": dict(adapters.measure_all())}
        (FIXTURES / "lora.json").write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
        print(f"{len(counts['trainable'])} models")


def _optimizers() -> None:
    target = FIXTURES / "optimizers.json"
    recorded = json.loads(target.read_text(encoding="utf-8"))
    states = {
        name: {
            str(dtype).removeprefix("torch."): {
                "x".join(map(str, shape)): optimizers.measure(make, shape, dtype) for shape in optimizers.SHAPES
            }
            for dtype in optimizers.DTYPES
        }
        for name, make in optimizers.makers().items()
    }
    document = {
        "versions": recorded["versions"] | optimizers.versions(),
        "rank": optimizers.RANK,
        "bytes": recorded["bytes"] | states,
    }
    target.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{len(states)} optimizers")


if __name__ == "__main__":
    main()
