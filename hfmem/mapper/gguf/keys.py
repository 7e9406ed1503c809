"""Typed reading of a GGUF's key-values: those of its architecture, whole numbers or one of them a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["InvalidKeyError", "Keys", "MissingKeyError"]

_LARGEST: Final = 2**40


class MissingKeyError(Exception):
    """A key that the architecture needs and the file has not.

    Attributes:
        key: its whole name.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)


class InvalidKeyError(Exception):
    """A key whose value cannot be right.

    Attributes:
        key: its whole name.
        value: what the file has.
    """

    def __init__(self, key: str, value: object) -> None:
        self.key = key
        self.value = value
        super().__init__(key, value)


class Keys:
    """The key-values of one file, by their names without the architecture's.

    Attributes:
        architecture: `general.architecture`; "" where the file has none.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        named = metadata.get("general.architecture")
        self.architecture = named if isinstance(named, str) else ""
        self._metadata = metadata

    def optional(self, key: str) -> int | None:
        """A whole number of at least 0, or None; of one that is given for each layer, the first.

        Raises:
            InvalidKeyError: something else.
        """
        value = self._value(key)
        found = value[0] if isinstance(value, list) and value else value
        return None if found is None else self._whole(key, found)

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number.

        Raises:
            MissingKeyError: absent, and no default.
            InvalidKeyError: something else.
        """
        found = self.optional(key)
        if found is not None:
            return found
        if default is None:
            raise MissingKeyError(f"{self.architecture}.{key}")
        return default

    def listed(self, key: str) -> bool:
        """Whether the file has a list of values, one a layer."""
        return isinstance(self._value(key), list)

    def each(self, key: str, layers: int, default: int) -> list[int]:
        """A whole number for each layer: from a list, or the same for all.

        Raises:
            InvalidKeyError: a list that is shorter than the layers, or something else.
        """
        value = self._value(key)
        if value is None:
            return [default] * layers
        if not isinstance(value, list):
            return [self._whole(key, value)] * layers
        if len(value) < layers:
            raise InvalidKeyError(f"{self.architecture}.{key}", f"{len(value)} values for {layers} layers")
        return [self._whole(key, item) for item in value[:layers]]

    def _value(self, key: str) -> Any:
        return self._metadata.get(f"{self.architecture}.{key}")

    def _whole(self, key: str, value: object) -> int:
        number = int(value) if isinstance(value, bool) else value
        if type(number) is not int or not 0 <= number <= _LARGEST:
            raise InvalidKeyError(f"{self.architecture}.{key}", value)
        return number
