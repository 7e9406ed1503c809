"""Which tensors a library keeps in float32, from the table that `hfmem.probe.pipelines.kept` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Final

from hfmem.data import text as data_text
from hfmem.mapper.values import ParameterTable, TensorGroup

__all__ = ["kept_in", "kept_wide"]

_HALF: Final = "float16"


def kept_in(library: str, class_name: str) -> Callable[[str], tuple[str, ...]]:
    """A function of a tensor's name: the run dtypes in which its class keeps it in float32. A word of the class's list
    stands for whole parts of names (diffusers 0.42, `models/model_loading_utils.py`; transformers 5.24,
    `core_model_loading.py`)."""
    rows = _table().get(library)
    lists = rows.get(class_name, {}) if isinstance(rows, dict) else {}
    if not lists:
        return _never
    patterns = [
        (tuple(dtypes.split(",")), re.compile(rf"(^|\.)({'|'.join(map(re.escape, words))})(\.|$)"))
        for dtypes, words in lists.items()
    ]

    def dtypes_of(name: str) -> tuple[str, ...]:
        found = {dtype for dtypes, pattern in patterns if pattern.search(name) for dtype in dtypes}
        return tuple(sorted(found))

    return dtypes_of


def kept_wide(parameters: ParameterTable, classes: Sequence[str]) -> ParameterTable:
    """The parameters of a model of transformers, with those marked that its class keeps in float32 when it runs in
    float16 (`_keep_in_fp32_modules`): T5's `wo`, which overflows there. A group has the last part of tensors' names,
    so a word that names more is not found."""
    dtypes_of = kept_in("transformers", classes[0] if classes else "")
    if not parameters.groups or dtypes_of is _never:
        return parameters
    return replace(parameters, groups=tuple(_marked(group, dtypes_of) for group in parameters.groups))


def _marked(group: TensorGroup, dtypes_of: Callable[[str], tuple[str, ...]]) -> TensorGroup:
    if _HALF not in dtypes_of(f"{group.role}.weight"):
        return group
    return replace(group, full_in=(_HALF,))


def _never(name: str) -> tuple[str, ...]:
    del name
    return ()


@cache
def _table() -> Mapping[str, Any]:
    text = data_text("kept_float32.json")
    found: dict[str, Any] = json.loads(text)
    return found
