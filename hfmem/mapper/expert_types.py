"""Types of transformers whose experts can be run in several ways, among which `generate` chooses."""

from __future__ import annotations

import json
from functools import cache

from hfmem.data import text as data_text

__all__ = ["gathered_types", "gathering_source"]


@cache
def _table() -> tuple[frozenset[str], str]:
    found = json.loads(data_text("expert_types.json"))
    return frozenset(found["types"]), str(found["source"])


def gathered_types() -> frozenset[str]:
    """The model types, `hfmem.probe.expert_types` has them from the modules' sources."""
    return _table()[0]


def gathering_source() -> str:
    """The release and its files."""
    return _table()[1]
