"""Every file format, in the order of preference; `register` adds one."""

from __future__ import annotations

from typing import Final

from hfmem.fetcher.formats import gguf, safetensors
from hfmem.fetcher.formats.protocol import Format

__all__ = ["format_of", "formats", "is_weights", "readable", "register"]

_FORMATS: Final[list[Format]] = [safetensors.FORMAT, gguf.FORMAT]

_OTHER_WEIGHTS: Final = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".ckpt", ".nemo", ".npz")
"""Suffixes of weights that no format here describes."""


def register(new: Format) -> None:
    """Add a format behind those that are there; the same one again changes nothing.

    Raises:
        ValueError: its name or one of its suffixes is another format's.
    """
    if new in _FORMATS:
        return
    for old in _FORMATS:
        if old.name == new.name or set(old.suffixes) & set(new.suffixes):
            raise ValueError(f"{new.name} has the name or a suffix of {old.name}")
    _FORMATS.append(new)


def formats() -> tuple[Format, ...]:
    """Every format."""
    return tuple(_FORMATS)


def readable() -> tuple[Format, ...]:
    """The formats whose headers can be read."""
    return tuple(row for row in _FORMATS if row.read is not None)


def format_of(filename: str) -> Format | None:
    """The format of a file, by its name; None for a file of none of them."""
    return next((row for row in _FORMATS if row.matches(filename)), None)


def is_weights(filename: str) -> bool:
    """Whether a file holds weights, read or not."""
    return format_of(filename) is not None or filename.endswith(_OTHER_WEIGHTS)
