"""Defaults of one's own: the accelerator, the engine and the unit that a person mostly asks about.

    ~/.config/hfmem/config.toml (or $XDG_CONFIG_HOME/hfmem/config.toml)     for every run of the command line
    [tool.hfmem] in the nearest pyproject.toml                              for a project; it wins, key by key

Only the command line reads them: a call in Python means the same on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from hfmem.errors import InvalidScenarioError
from hfmem.fetcher.files import read_text
from hfmem.options import rules
from hfmem.options.option import Declared, declared, value_of
from hfmem.options.run import is_profile
from hfmem.refusals.files import DefaultsFileError
from hfmem.scenario.check import check
from hfmem.scenario.options import Options

__all__ = ["KEYS", "Preference", "as_words", "preferences", "with_preferences"]

KEYS: Final = ("gpu", "runtime", "unit")
"""Options that may have a default of one's own, by their names in Python."""

_LONGEST: Final = 2**20  # bytes of a file
_TABLE: Final = "hfmem"
_KEY: Final = "tool.hfmem"
_OF_MACHINE: Final = ("cpu", "auto")  # values of --gpu that are no rows of the table


class Preference(NamedTuple):
    """A default of one's own.

    Attributes:
        option: the option.
        value: its value.
        file: the file that has it, as a person would write its path.
    """

    option: Declared
    value: Any
    file: str

    def __str__(self) -> str:
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        flag = self.option.flags[0]
        return " ".join(f"{flag} {each!r}" if " " in str(each) else f"{flag} {each}" for each in values)


def preferences(options: Sequence[Declared]) -> tuple[Preference, ...]:
    """The defaults of the person and of the project, the latter first where both have one.

    Args:
        options: the options of the command line.

    Raises:
        DefaultsFileError: a file is no TOML, or has an unknown key or value.
    """
    known = {option.name: option for option in options if option.name in KEYS}
    found: dict[str, Preference] = {}
    for path, table in _tables():
        for key, value in table.items():
            if key not in known:
                raise DefaultsFileError(_shown(path), key=str(key), known=tuple(known))
            found[key] = Preference(option=known[key], value=_value(path, known[key], value), file=_shown(path))
    return tuple(found[key] for key in known if key in found)


def with_preferences(options: Options, preferred: Sequence[Preference]) -> tuple[Options, list[Preference]]:
    """The options with the defaults for what was not asked, and which those are. A default that cannot go with what was
    asked (an engine, where something is trained) is no wish for this run, and is left out."""
    used = []
    mine = {option.name for option in declared(type(options))}
    for preference in preferred:
        name = preference.option.name
        if name not in mine or preference.option.asked(options):
            continue
        changed: Options = replace(options, **{name: preference.value})
        if _valid(changed) or not _valid(options):
            options = changed
            used.append(preference)
    return options, used


def as_words(used: Sequence[Preference]) -> Iterator[str]:
    """A sentence for each file with defaults that a run uses."""
    for file in dict.fromkeys(each.file for each in used):
        words = " ".join(str(each) for each in used if each.file == file)
        yield f"{words}: the default in {file} (--no-defaults leaves it out)."


def _valid(options: Options) -> bool:
    """Whether options go together; the hardware of a profile is not known yet."""
    try:
        check(replace(options, gpu=tuple(name for name in options.gpu if not is_profile(name))))
    except InvalidScenarioError:
        return False
    return True


def _tables() -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The files with defaults and their keys, the one that wins last."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    with suppress(RuntimeError):  # there is no home
        own = (Path(home) if Path(home).is_absolute() else Path.home() / ".config") / _TABLE / "config.toml"
        if (content := _read(own)) is not None:
            yield own, content
    try:
        here = Path.cwd()
    except OSError:  # the folder was deleted
        return
    for folder in (here, *here.parents):
        path = folder / "pyproject.toml"
        if (content := _read(path, project=True)) is not None:
            table = content.get("tool", {}).get(_TABLE) if isinstance(content.get("tool", {}), dict) else None
            if table is not None and not isinstance(table, dict):
                raise DefaultsFileError(_shown(path), key=_KEY)
            if table is not None:
                yield path, table
                return


def _read(path: Path, *, project: bool = False) -> dict[str, Any] | None:
    """The content of a file; None if there is none. A project's file that is no TOML is others' to complain about."""
    try:
        text = read_text(path, _LONGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if project:
            return None
        raise DefaultsFileError(_shown(path), why=_reason(error)) from None
    if project and _KEY not in text.replace(" ", ""):
        return None
    import tomllib  # for runs with a file

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        if project and isinstance(error, RecursionError):
            return None
        raise DefaultsFileError(_shown(path), why=_reason(error)) from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _value(path: Path, option: Declared, given: Any) -> Any:
    """The value of a key, as on the command line.

    Raises:
        DefaultsFileError: it is none that the option can have.
    """
    try:
        value = value_of(option, given)
        if error := rules.wrong(option, value):
            raise error
        for name in value if option.name == "gpu" else ():
            _check_gpu(name)
    except InvalidScenarioError as error:
        raise DefaultsFileError(_shown(path), key=option.name, cause=error) from None
    return value


def _check_gpu(name: str) -> None:
    """Refuse an unknown accelerator.

    Raises:
        UnknownGpuError: it is not in the table.
    """
    if not is_profile(name) and name.strip().lower().partition(" ")[0] not in _OF_MACHINE:
        from hfmem.hardware.table import find  # for runs with a default

        find(name)


def _shown(path: Path) -> str:
    """A path as a person would write it."""
    for base, sign in ((Path.home, "~/"), (Path.cwd, "")):
        with suppress(OSError, RuntimeError, ValueError):  # none, or the path is elsewhere
            return f"{sign}{path.relative_to(base())}"
    return str(path)
