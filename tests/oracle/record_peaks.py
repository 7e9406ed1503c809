"""Writes what is missing of `fixtures/oracle/peaks.json`: `python -m tests.oracle.record_peaks [models]`."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.oracle.peak_cases import CASES, MODELS, RANK, TARGETS, shapes, shortened
from tests.oracle.peaks import peak

RECORDING = Path(__file__).parents[2] / "fixtures" / "oracle" / "peaks.json"


def _read() -> dict[str, Any]:
    if RECORDING.exists():
        found: dict[str, Any] = json.loads(RECORDING.read_text(encoding="utf-8"))
        return found
    versions = {name: version(name) for name in ("torch", "transformers", "peft")}
    return {"versions": versions, "rank": RANK, "targets": TARGETS, "bytes": {}}


def main() -> None:
    """Measure each model in each case and shape that is not there."""
    for name in sys.argv[1:] or MODELS:
        config = shortened(name)
        for batch, seq in shapes(config):
            for method, checkpointing in CASES:
                case = f"{method} {'checkpointing' if checkpointing else 'saved'} {batch}x{seq}"
                if case in _read()["bytes"].get(name, {}):
                    continue
                measured = peak(config, batch=batch, seq=seq, method=method, checkpointing=checkpointing)
                document = _read()
                document["bytes"].setdefault(name, {})[case] = measured
                RECORDING.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
                print(name, case, measured, flush=True)


if __name__ == "__main__":
    main()
