"""Which tensors a library keeps in float32, from the table that `hfmem.probe.pipelines.kept` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["kept_in"]


def kept_in(library: str, class_name: str) -> Callable[[str], tuple[str, ...]]:
    """A function of a tensor's name: the run dtypes in which its class keeps it in float32. A word of the class's list
    stands for whole parts of names (diffusers 0.42, `models/model_loading_utils.py`; transformers 5.24,
    `core_model_loading.py`)."""
    rows = _table().get(library)
    lists = rows.get(class_name, {}) if isinstance(rows, dict) else {}
    patterns = [
        (tuple(dtypes.split(",")), re.compile(rf"(^|\.)({'|'.join(map(re.escape, words))})(\.|$)"))
        for dtypes, words in lists.items()
    ]

    def dtypes_of(name: str) -> tuple[str, ...]:
        found = {dtype for dtypes, pattern in patterns if pattern.search(name) for dtype in dtypes}
        return tuple(sorted(found))

    return dtypes_of


@cache
def _table() -> Mapping[str, Any]:
    text = files("hfmem.data").joinpath("kept_float32.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
