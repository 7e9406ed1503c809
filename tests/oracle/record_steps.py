"""Writes what is missing of `fixtures/oracle/steps.json`: `python -m tests.oracle.record_steps [models]`."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.oracle.peak_cases import RANK, TARGETS
from tests.oracle.step_cases import ENCODED, MODELS, cases, config_of
from tests.oracle.steps import peaks

RECORDING = Path(__file__).parents[2] / "fixtures" / "oracle" / "steps.json"


def _read() -> dict[str, Any]:
    if RECORDING.exists():
        found: dict[str, Any] = json.loads(RECORDING.read_text(encoding="utf-8"))
        return found
    versions = {name: version(name) for name in ("torch", "transformers", "peft")}
    return {"versions": versions, "rank": RANK, "targets": TARGETS, "bytes": {}}


def _write(document: dict[str, Any]) -> None:
    head = json.dumps({key: value for key, value in document.items() if key != "bytes"})[:-1]
    lines = [
        f"  {json.dumps(name)}: {{\n"
        + ",\n".join(f"   {json.dumps(case)}: {json.dumps(found)}" for case, found in rows.items())
        + "\n  }"
        for name, rows in document["bytes"].items()
    ]
    RECORDING.write_text(f'{head}, "bytes": {{\n' + ",\n".join(lines) + "\n}}\n", encoding="utf-8")


def main() -> None:
    """Measure each case of each model that is not there."""
    for name in sys.argv[1:] or (*MODELS, *ENCODED):
        config = config_of(name)
        for case in cases(config):
            document = _read()
            rows = document["bytes"].setdefault(name, {})
            if str(case) in rows:
                continue
            try:
                rows[str(case)] = peaks(config, case)
            except Exception as error:  # whatever a class raises
                why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                print(name, case, why, flush=True)
                continue
            _write(document)
            print(name, case, rows[str(case)], flush=True)


if __name__ == "__main__":
    main()
