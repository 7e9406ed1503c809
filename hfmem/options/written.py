"""Values as a person writes them, on the command line or on the page: strings, before they are parsed and validated."""

from __future__ import annotations

from typing import Any, Final

from hfmem.options.option import Declared

__all__ = ["NUMBERS", "written"]

NUMBERS: Final = (int, float)
"""Types whose values are written in digits."""


def written(option: Declared, value: Any) -> Any:
    """A number from a string if possible; anything else is left to the validation."""
    if option.option.parse is not None or option.option.words or option.kind not in NUMBERS:
        return value
    if option.several:
        return [_number(option.kind, each) for each in value]
    return _number(option.kind, value)


def _number(kind: type, value: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        return value
