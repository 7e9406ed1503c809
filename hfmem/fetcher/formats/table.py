"""The file formats in order of preference; `register` adds one."""

from __future__ import annotations

from typing import Final

from hfmem.fetcher.formats import gguf, safetensors
from hfmem.fetcher.formats.pickled import format as pickled
from hfmem.fetcher.formats.protocol import Format

__all__ = ["format_of", "formats", "is_weights", "readable", "register"]

_FORMATS: Final[list[Format]] = [safetensors.FORMAT, gguf.FORMAT, pickled.FORMAT]

_OTHER_WEIGHTS: Final = (".h5", ".msgpack", ".onnx", ".nemo", ".npz")
"""Suffixes of weight files in formats that cannot be read."""


def register(new: Format) -> None:
    """Append a format; registering the same one again has no effect.

    Raises:
        ValueError: another format has its name or one of its suffixes.
    """
    if new in _FORMATS:
        return
    for old in _FORMATS:
        if old.name == new.name or set(old.suffixes) & set(new.suffixes):
            raise ValueError(f"{new.name} has the same name or a suffix of {old.name}")
    _FORMATS.append(new)


def formats() -> tuple[Format, ...]:
    """All formats."""
    return tuple(_FORMATS)


def readable() -> tuple[Format, ...]:
    """The formats whose headers can be read."""
    return tuple(row for row in _FORMATS if row.read is not None)


def format_of(filename: str) -> Format | None:
    """The format of a file, by its suffix; None if it has none of them."""
    return next((row for row in _FORMATS if row.matches(filename)), None)


def is_weights(filename: str) -> bool:
    """Whether a file contains weights by its suffix, in a readable format or not."""
    return format_of(filename) is not None or filename.endswith(_OTHER_WEIGHTS)
