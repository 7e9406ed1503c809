"""All options of a scenario, including those registered later. It is light to import, as help needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from hfmem.engines.table import USUAL, EngineOptions, EngineRow, engines
from hfmem.options.adapters import AdapterOptions
from hfmem.options.media import MediaOptions
from hfmem.options.option import declared
from hfmem.options.parallel import ParallelOptions
from hfmem.options.rules import Owners
from hfmem.options.run import RunOptions
from hfmem.options.trainers import TrainerOptions
from hfmem.options.training import TrainingOptions

__all__ = ["Asked", "extended", "owners", "register_options", "registered_options"]

_REGISTERED: list[type] = []


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class Asked(RunOptions, MediaOptions, EngineOptions, TrainingOptions, TrainerOptions, AdapterOptions, ParallelOptions):
    """The options, which are also the keywords of the Python functions."""


def register_options(options: type) -> None:
    """Add options that belong to no engine: a frozen, keyword-only dataclass. They become available on the command
    line, in its help, as keywords of the Python functions and in training files, and are validated."""
    _REGISTERED.append(options)


@contextmanager
def registered_options(options: type) -> Iterator[None]:
    """Register a set of options for the duration of a `with` block."""
    register_options(options)
    try:
        yield
    finally:
        _REGISTERED.remove(options)


def extended(options: type) -> type[Any]:
    """A dataclass of options extended by those registered later; the dataclass itself if there are none."""
    later = [row.options for row in engines()] + _REGISTERED
    return _with(options, tuple(dict.fromkeys(cls for cls in later if not issubclass(options, cls))))


_MADE: dict[tuple[type, tuple[type, ...]], type] = {}


def _with(options: type, later: tuple[type, ...]) -> type[Any]:
    if not later:
        return options
    if (options, later) not in _MADE:
        made = type(options.__name__, (options, *later), {"__doc__": options.__doc__, "__module__": options.__module__})
        _MADE[options, later] = dataclass(frozen=True, kw_only=True, repr=False)(made)
    return _MADE[options, later]


def owners() -> Owners:
    """For each option of an engine, the engines that have it."""
    return _owners(tuple(engines()))


@cache
def _owners(rows: tuple[EngineRow, ...]) -> Owners:
    """The same, of these engines: it is asked for with every model."""
    found: dict[str, tuple[tuple[str, str, bool], ...]] = {}
    for row in rows:
        chosen = row.name == USUAL or bool(row.formats or row.quantisers)
        for option in declared(row.options):
            found[option.name] = (*found.get(option.name, ()), (row.name, row.title, chosen))
    return found
