"""A tensor table in the making: names with dtype and shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any

from hfmem.fetcher.patterns import Row, compress, expand

__all__ = ["SAFETENSORS", "Shape", "Table", "elements", "renamed", "rows", "stored_dtype", "table"]

Shape = tuple[int, ...]
Table = dict[str, tuple[str, Shape]]
"""Dtype (safetensors name) and shape by tensor name."""

SAFETENSORS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "half": "F16", "float": "F32"}


def table(patterns: Iterable[Row]) -> Table:
    """The table that compressed rows stand for."""
    return {name: (dtype, shape) for name, dtype, shape in expand(patterns)}


def rows(contents: Table) -> tuple[Row, ...]:
    """The table as compressed rows."""
    return tuple(compress((name, dtype, shape) for name, (dtype, shape) in contents.items()))


def elements(contents: Table) -> int:
    """Stored elements."""
    return sum(prod(shape) for _, shape in contents.values())


def stored_dtype(config: dict[str, Any]) -> str:
    """The safetensors name of the dtype that the config names, at the top or in a part; F32, torch's, without one."""
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
    """The table with every name put through `rename`."""
    return {rename(name): value for name, value in contents.items()}
