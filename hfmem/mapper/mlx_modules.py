"""Whether mlx-lm has a module for a model's type, from the table that `hfmem.probe.mlx_modules` writes."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from hfmem.data import text as data_text
from hfmem.mapper.values import Architecture

__all__ = ["unlisted"]


def unlisted(architecture: Architecture) -> str:
    """Why mlx-lm does not load a model (`_get_classes` of mlx_lm/utils.py); "" where it has a module for its type, or
    the type is not known."""
    kind, table = architecture.model_type, _table()
    known = not kind or kind in table["renamed"] or kind in table["modules"]
    return "" if known else f"{table['source']} does not run models of type {kind}: it has no module for them"


@cache
def _table() -> dict[str, Any]:
    text = data_text("mlx_modules.json")
    found: dict[str, Any] = json.loads(text)
    return found
