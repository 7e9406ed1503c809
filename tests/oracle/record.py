"""Measures the models of `fixtures/oracle/parameters.json` again, and writes what the installed libraries say.

    python -m tests.oracle.record

A row is a model, the keys of its config.json that memory depends on, the parameters of the class it names (on the meta
device, tied weights once), and how many layers' caches keep how many tokens (`all`, or a window; null for encoders).
To add a model, add its name and config and run this.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from tests.oracle.reference import parameters, windows

TARGET = Path(__file__).parents[2] / "fixtures" / "oracle" / "parameters.json"


def main() -> None:
    """Measure and write."""
    recorded = json.loads(TARGET.read_text())
    rows = [measured(row["model"], row["config"]) for row in recorded["models"]]
    head = {"tool": "python -m tests.oracle.record", "transformers": transformers.__version__}
    head["torch"] = torch.__version__.partition("+")[0]
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    TARGET.write_text(f'{json.dumps(head)[:-1]}, "models": [\n{lines}\n]}}\n')
    print(f"{len(rows)} models")


def measured(model: str, config: dict[str, Any]) -> dict[str, Any]:
    """The row of one model."""
    encoder = config["model_type"] in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    kept = None if encoder else dict(Counter("all" if window is None else str(window) for window in windows(config)))
    return {"model": model, "config": config, "parameters": parameters(config), "caches": kept}


if __name__ == "__main__":
    main()
