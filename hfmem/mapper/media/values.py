"""What is counted, and the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Ask", "Clip", "Keys", "Picture", "RefusedMediaError", "Sound", "Tokens", "UncountedError"]

_LARGEST: Final = 2**31  # of a setting; real ones stay below 2^28 pixels


class UncountedError(Exception):
    """The tokens cannot be counted: `reason` is a clause on what is missing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RefusedMediaError(UncountedError):
    """The processor itself refuses this image or sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image in pixels, and how many of them there are in the prompt."""

    width: int
    height: int
    of: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A video: its frames (after sampling) and their size in pixels."""

    frames: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """Sound of a length in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """How many features are handed to the decoder, and the arithmetic.

    Attributes:
        count: features of one image, video or sound.
        how: the arithmetic.
        pieces: images that its tower runs for it: tiles, or the image itself; windows of sound; 0 where that is not
            known.
        patches: patches (positions) of each; 0 for those of the tower's own size of images (its own length of sound).
    """

    count: int
    how: str
    pieces: int = 0
    patches: int = 0


@dataclass(frozen=True, slots=True)
class Keys:
    """Settings from several places, the first of which wins. A null counts as absent."""

    layers: tuple[Mapping[str, Any], ...]

    def get(self, *names: str) -> Any:
        """The value of the first name that any layer has; None if there is none."""
        for name in names:
            for layer in self.layers:
                if layer.get(name) is not None:
                    return layer[name]
        return None

    def integer(self, *names: str, default: int | None = None) -> int:
        """A whole number from 0.

        Raises:
            UncountedError: it is missing, or is no such number.
        """
        found = self.get(*names)
        if found is None:
            if default is None:
                raise UncountedError(f"the processor's files lack '{names[0]}'")
            return default
        return _whole(found, names[0])

    def size(self, *names: str, default: int | None = None) -> int:
        """A whole number from 1; the height where it is given as height and width."""
        found = self.get(*names)
        if isinstance(found, (Mapping, list, tuple)):
            return self.pair(*names)[0]
        return _positive(self.integer(*names, default=default), names[0])

    def number(self, *names: str, default: float | None = None) -> float:
        """A positive number; a fraction may be written as "1/2"."""
        found = self.get(*names)
        if found is None and default is not None:
            return default
        if isinstance(found, str) and found.count("/") == 1:
            upper, lower = (part.strip() for part in found.split("/"))
            found = int(upper) / int(lower) if upper.isdigit() and lower.isdigit() and int(lower) else None
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 < found < _LARGEST:
            raise UncountedError(f"in the processor's files, '{names[0]}' is missing or impossible")
        return float(found)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A flag."""
        found = self.get(name)
        return found if isinstance(found, bool) else default

    def pair(self, *names: str) -> tuple[int, int]:
        """A height and a width: by name, as a list, or as one number for both."""
        found = self.get(*names)
        if isinstance(found, Mapping):
            one = found.get("shortest_edge") or found.get("longest_edge")
            both = (found.get("height", one), found.get("width", one))
        elif isinstance(found, (list, tuple)) and len(found) == 2:
            both = (found[0], found[1])
        else:
            both = (found, found)
        if None in both:
            raise UncountedError(f"the processor's files lack '{names[0]}'")
        return _positive(_whole(both[0], names[0]), names[0]), _positive(_whole(both[1], names[0]), names[0])

    def within(self, name: str, *keys: str) -> int | None:
        """A number at a key of a nested setting; None if it is not there."""
        found = self.get(name)
        if not isinstance(found, Mapping):
            return None
        for key in keys:
            if found.get(key) is not None:
                return _positive(_whole(found[key], key), key)
        return None


def _whole(value: object, name: str) -> int:
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise UncountedError(f"in the processor's files, '{name}' is impossible")
    return value


def _positive(value: int, name: str) -> int:
    if value < 1:
        raise UncountedError(f"in the processor's files, '{name}' is impossible")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The settings that a rule reads.

    Attributes:
        image: of the class that prepares images.
        video: of the class that prepares videos.
        audio: of the class that prepares sound.
        processor: of the processor, which puts them together.
        config: config.json, for what the processor's files leave out.
        classes: the class of each part.
    """

    image: Keys
    video: Keys
    audio: Keys
    processor: Keys
    config: Mapping[str, Any] = field(hash=False)
    classes: Mapping[str, str] = field(hash=False)

    def vision(self) -> Keys:
        """Settings of the vision tower in config.json."""
        found = self.config.get("vision_config")
        return Keys((found if isinstance(found, Mapping) else {}, self.config))

    def root(self) -> Keys:
        """The settings at the root of config.json."""
        return Keys((self.config,))


PictureRule = Callable[[Ask, Picture], Tokens]
ClipRule = Callable[[Ask, Clip], Tokens]
SoundRule = Callable[[Ask, Sound], Tokens]
