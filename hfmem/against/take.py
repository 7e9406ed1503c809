"""Settings that a log states, as options of a run that were not given."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, TypeVar

from hfmem.against.lines import logs
from hfmem.against.values import Log
from hfmem.options.option import declared, flag
from hfmem.options.rules import wrong

__all__ = ["with_settings"]

_Options = TypeVar("_Options")


def with_settings(
    options: _Options, log: Log, given: Collection[str]
) -> tuple[_Options, tuple[str, ...], tuple[str, ...]]:
    """The options with what the log states and nobody gave, what was taken, as it stands on a command line, and the
    names of settings whose values are none that the options take.

    Args:
        options: the options.
        log: the log.
        given: names of options that somebody gave.
    """
    known = {option.name: option for option in declared(type(options))}
    found: dict[str, Any] = {}
    if log.software in logs() and "runtime" not in given:
        found["runtime"] = log.software
    broken: list[str] = []
    runs = found.get("runtime") or getattr(options, "runtime", None)
    if log.software in logs() and runs == log.software:
        stated = {name: value for name, value in log.settings.items() if name in known and name not in given}
        broken = [name for name, value in stated.items() if wrong(known[name], value) is not None]
        found |= {name: value for name, value in stated.items() if name not in broken and not _idle(name, value, known)}
    if log.software in logs() and {"seq", "batch"} & set(given):
        for name in logs()[log.software].fixed:
            found.pop(name, None)
    words = tuple(_word(name, value) for name, value in found.items())
    changed: _Options = replace(options, **found)  # type: ignore[type-var]
    return changed, words, tuple(broken)


def _word(name: str, value: Any) -> str:
    """An option with its value, as a command line has it."""
    if isinstance(value, bool):
        return flag(name) if value else f"--no-{flag(name).removeprefix('--')}"
    return f"{flag(name)} {value}" if " " not in str(value) else f"{flag(name)} '{value}'"


def _idle(name: str, value: Any, known: Any) -> bool:
    """Whether a value is the default, or a size of one."""
    return value == known[name].default or (name in ("tp", "pp", "dp") and value == 1)
