"""The attention implementations that a model's classes support, from the table that `hfmem.probe.attention` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from hfmem.data import text as data_text
from hfmem.mapper.values import Implementations

__all__ = ["implementations"]


_EVERYTHING: Final = Implementations(name="")


def implementations(types: Sequence[str]) -> Implementations:
    """The implementations of a model, given its types (the whole first, then its text model). By default the text
    model's class decides; one requested by name must be supported by every class. Types that are not in the table
    support everything."""
    found = [_row(model_type) for model_type in types]
    if not found:
        return _EVERYTHING
    flashless = next((row for row in found if not row.flash), None)
    named = flashless or next((row for row in found if row.kernels), found[-1])
    return Implementations(
        name=found[-1].name if not found[-1].sdpa else named.name,
        sdpa=found[-1].sdpa,
        flash=flashless is None,
        kernels=named.kernels,
        source=named.source,
    )


@cache
def _row(model_type: str) -> Implementations:
    head, *lines = _lines()
    source = str(json.loads(head)["source"])
    start = f'{{"type":{json.dumps(model_type)},'
    line = next((line for line in lines if line.startswith(start)), None)
    if line is None:
        return Implementations(name="", source=source)
    row: dict[str, Any] = json.loads(line)
    lacks = row.get("lacks", ())
    return Implementations(
        name=row["class"],
        sdpa="sdpa" not in lacks,
        flash="flash" not in lacks,
        kernels=tuple(row.get("kernels", ())),
        source=source,
    )


@cache
def _lines() -> list[str]:
    return data_text("attention.jsonl").splitlines()
