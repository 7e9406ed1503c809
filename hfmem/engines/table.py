"""The engines there are: one row each. Nothing else in the package names one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from hfmem.engines.protocol import Engine

__all__ = ["DEFAULT", "ENGINES", "EngineRow", "Runtime", "engine", "register"]

Runtime = Literal["transformers", "vllm"]
"""The words of `--runtime`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRow:
    """An engine, before it is loaded.

    Attributes:
        name: what `--runtime` calls it.
        title: its name in sentences.
        module: where its `ENGINE` is.
    """

    name: str
    title: str
    module: str


DEFAULT: Final[Runtime] = "transformers"

ENGINES: Final[dict[str, EngineRow]] = {
    row.name: row
    for row in (
        EngineRow(name="transformers", title="transformers", module="hfmem.engines.transformers.engine"),
        EngineRow(name="vllm", title="vLLM", module="hfmem.engines.vllm.engine"),
    )
}


def register(row: EngineRow) -> None:
    """Add an engine."""
    ENGINES[row.name] = row
    engine.cache_clear()


@cache
def engine(name: str) -> Engine:
    """The engine of a name, loaded when it is asked for.

    Raises:
        KeyError: there is none.
    """
    found: Engine = import_module(ENGINES[name].module).ENGINE
    return found
