"""Of files and variables that cannot be read, or that say what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from hfmem.refusals.files import (
    KeyConflictError,
    KeyValueError,
    MissingTowerError,
    Setting,
    TrainingFileError,
    UnreadableFileError,
    UnreadableVariableError,
)

__all__ = ["WORDS"]


def _unreadable_file(error: UnreadableFileError) -> str:
    return f"{error.option} {error.file} cannot be read: {error.why or 'it is not text'}"


def _missing_tower(error: MissingTowerError) -> str:
    has = f"{error.beside} has {', '.join(error.known) or 'none'}"
    return f"{error.option} '{error.file}': no such file is here, and {has}; or auto, or none"


def _unreadable_variable(error: UnreadableVariableError) -> str:
    name = error.name or "One of the variables that begin with HF_"
    return f"{name} cannot be read ({error.why}): correct it, or unset it"


def _training_file(error: TrainingFileError) -> str:
    faults = {
        "syntax": "is neither valid JSON nor valid YAML",
        "mapping": "does not contain a mapping of keys to values",
        "size": f"holds more than {error.most:,} values, with its aliases",
    }
    return f"--from-args {error.file} {faults[error.fault]}"


def _key_value(error: KeyValueError) -> str:
    return f"--from-args: '{error.key}' cannot be {error.value}"


def _key_conflict(error: KeyConflictError) -> str:
    first, second = _said(error.first), _said(error.second)
    if error.equal:
        step = f'make them equal, or write "auto" for {error.second.key}'
        return f"--from-args: {first}, but {second}: the Trainer refuses that; {step}"
    return f"--from-args: {first}, and {second}: only one may be true; set the other to false"


def _said(setting: Setting) -> str:
    return f"{setting.file}: {setting.key} is {json.dumps(setting.value)}"


WORDS: Final[dict[type, Callable[[Any], str]]] = {
    KeyConflictError: _key_conflict,
    KeyValueError: _key_value,
    MissingTowerError: _missing_tower,
    TrainingFileError: _training_file,
    UnreadableFileError: _unreadable_file,
    UnreadableVariableError: _unreadable_variable,
}
"""The words of each kind."""
