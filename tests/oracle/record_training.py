"""Writes `fixtures/oracle/{optimizers,lora}.json`: `python -m tests.oracle.record_training`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.oracle import adapters, optimizers

FIXTURES = Path(__file__).parents[2] / "fixtures" / "oracle"


def main() -> None:
    """Measure everything that is installed."""
    states = {
        name: {
            str(dtype).removeprefix("torch."): {
                "x".join(map(str, shape)): optimizers.measure(make, shape, dtype) for shape in optimizers.SHAPES
            }
            for dtype in optimizers.DTYPES
        }
        for name, make in optimizers.makers().items()
    }
    document = {"versions": optimizers.versions(), "rank": optimizers.RANK, "bytes": states}
    (FIXTURES / "optimizers.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    counts = {"versions": adapters.versions(), "rank": adapters.RANK, "trainable": dict(adapters.measure_all())}
    (FIXTURES / "lora.json").write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    print(f"{len(states)} optimizers, {len(counts['trainable'])} models")


if __name__ == "__main__":
    main()
