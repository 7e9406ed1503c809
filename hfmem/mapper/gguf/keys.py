"""Typed access to a GGUF's metadata: the keys under its architecture's prefix, as one integer or one per layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["InvalidKeyError", "Keys", "MissingKeyError"]

_LARGEST: Final = 2**40


class MissingKeyError(Exception):
    """A key that the architecture requires is missing from the file.

    Attributes:
        key: the full name, prefix included.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)


class InvalidKeyError(Exception):
    """A key has an impossible value.

    Attributes:
        key: the full name, prefix included.
        value: the value in the file.
    """

    def __init__(self, key: str, value: object) -> None:
        self.key = key
        self.value = value
        super().__init__(key, value)


class Keys:
    """The metadata of one file, by key without the architecture's prefix.

    Attributes:
        architecture: `general.architecture`; "" where the file has none.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        named = metadata.get("general.architecture")
        self.architecture = named if isinstance(named, str) else ""
        self._metadata = metadata

    def optional(self, key: str) -> int | None:
        """A non-negative integer, or None where the key is absent; the first entry of a per-layer list.

        Raises:
            InvalidKeyError: any other value.
        """
        value = self._value(key)
        found = value[0] if isinstance(value, list) and value else value
        return None if found is None else self._whole(key, found)

    def number(self, key: str, default: int | None = None) -> int:
        """A non-negative integer.

        Raises:
            MissingKeyError: the key is absent and there is no default.
            InvalidKeyError: any other value.
        """
        value = self.optional(key)
        if value is not None:
            return value
        if default is None:
            raise MissingKeyError(f"{self.architecture}.{key}")
        return default

    def listed(self, key: str) -> bool:
        """Whether the value is a list with one entry per layer."""
        return isinstance(self._value(key), list)

    def each(self, key: str, layers: int, default: int) -> list[int]:
        """One integer per layer: from a list, or the same for all layers.

        Raises:
            InvalidKeyError: a list with fewer entries than layers, or any other value.
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
