"""What layers keep in the implementation: of a window, one token less, because the next one takes its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from hfmem.mapper.values import Layer


def elements(layers: Iterable[Layer], tokens: int, source: int) -> list[int]:
    """Elements that each layer keeps of so many tokens, and of those of an encoder."""
    return [dataclasses.replace(layer, cache=_kept(layer.cache)).elements(tokens, source) for layer in layers]


def _kept(cache: Any) -> Any:
    if isinstance(cache, tuple):
        return tuple(_kept(one) for one in cache)
    if not dataclasses.is_dataclass(cache) or isinstance(cache, type):
        return cache
    changes = {field.name: _kept(getattr(cache, field.name)) for field in dataclasses.fields(cache)}
    if changes.get("window") is not None:
        changes["window"] -= 1
    return dataclasses.replace(cache, **changes)
