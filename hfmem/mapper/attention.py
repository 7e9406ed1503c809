"""The attention implementations that a model's classes support, from the table that `hfmem.probe.attention` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

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


def _row(model_type: str) -> Implementations:
    rows, source = _table()
    row = rows.get(model_type)
    if row is None:
        return Implementations(name="", source=source)
    lacks = row.get("lacks", ())
    return Implementations(
        name=row["class"],
        sdpa="sdpa" not in lacks,
        flash="flash" not in lacks,
        kernels=tuple(row.get("kernels", ())),
        source=source,
    )


@cache
def _table() -> tuple[dict[str, dict[str, Any]], str]:
    text = files("hfmem.data").joinpath("attention.jsonl").read_text(encoding="ascii")
    head, *rows = (json.loads(line) for line in text.splitlines())
    return {row["type"]: row for row in rows}, str(head["source"])
