"""The lines of the bundled catalog, for tests that need its configurations and not its many tensors."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["configs"]


@cache
def configs() -> dict[str, dict[str, Any]]:
    """The configuration of each model; empty where its is not known."""
    lines = files("hfmem.data").joinpath("catalog.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    return {entry["model"]: entry["config"] or {} for entry in map(json.loads, lines)}
