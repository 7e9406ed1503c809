"""Tensor tables as dictionaries from name to dtype and shape, the form in which they are edited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any

from hfmem.fetcher.patterns import Row, compress, expand

__all__ = ["SAFETENSORS", "Shape", "Table", "elements", "renamed", "rows", "stored_dtype", "table"]

Shape = tuple[int, ...]
Table = dict[str, tuple[str, Shape]]
"""Dtype (as named in safetensors) and shape by tensor name."""

SAFETENSORS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "half": "F16", "float": "F32"}


def table(patterns: Iterable[Row]) -> Table:
    """The table from compact rows."""
    return {name: (dtype, shape) for name, dtype, shape in expand(patterns)}


def rows(contents: Table) -> tuple[Row, ...]:
    """The table as compact rows."""
    return tuple(compress((name, dtype, shape) for name, (dtype, shape) in contents.items()))


def elements(contents: Table) -> int:
    """The number of stored elements."""
    return sum(prod(shape) for _, shape in contents.values())


def stored_dtype(config: dict[str, Any]) -> str:
    """The config's dtype as named in safetensors, from the top level or a sub-config; without one F32, torch's
    default."""
    for part in _parts(config):
        name = part.get("dtype") or part.get("torch_dtype")
        if isinstance(name, str):
            return SAFETENSORS[name.removeprefix("torch.")]
    return "F32"


def _parts(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield config
    for key in ("text_config", "llm_config", "language_config", "thinker_config", "llm_cfg"):
        if isinstance(config.get(key), dict):
            yield from _parts(config[key])


def renamed(contents: Table, rename: Callable[[str], str]) -> Table:
    """The table with `rename` applied to every name."""
    return {rename(name): value for name, value in contents.items()}
