"""Typed access to config.json: a key in the file, else the config class's default, else absent. Never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hfmem.errors import InvalidConfigError, quoted
from hfmem.mapper.defaults import ConfigClass, config_class

__all__ = ["Facts", "MissingFactError"]


_LARGEST: Final = 10**15  # a size of a model above this is an error in the config
_DIGITS: Final = 20  # strings with more digits are not converted
_LONGEST_TYPE: Final = 80  # characters of a model_type


class MissingFactError(Exception):
    """A required key that neither the file nor the config class has. The mapper reports the model as `unknown`.

    Attributes:
        key: the missing key, with its path in the file.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)


class Facts:
    """Read-only view of one config object (the file's root, or a nested one such as `text_config`).

    Every method accepts several spellings of a key, and returns the first one in the file, else the first one with a
    default in the config class. A key that is present and null counts as absent *without* falling back to the class:
    `"sliding_window": null` means no window, even if the class has a default.
    """

    def __init__(self, config: Mapping[str, Any], model_type: str | None = None, path: str = "") -> None:
        self._config = config
        self._path = path
        self._class: ConfigClass | None = None
        own = config.get("model_type")
        self.model_type: str = own[:_LONGEST_TYPE] if isinstance(own, str) and own else (model_type or "")

    def has(self, key: str) -> bool:
        """Whether the file itself has the key with a non-null value."""
        return self._config.get(key) is not None

    def integer(self, *keys: str, default: int | None = None) -> int:
        """An integer; `default` is for keys that the class derives from others if they are absent.

        Raises:
            MissingFactError: the key is absent, and there is no default.
            InvalidConfigError: the value is not an integer that can be a size.
        """
        value = self.optional_integer(*keys)
        if value is not None:
            return value
        if default is not None:
            return default
        raise MissingFactError(self._path + keys[0])

    def optional_integer(self, *keys: str) -> int | None:
        """A non-negative integer, or None."""
        key, value = self._find(keys)
        if value is None:
            return None
        number = _whole(value)
        if number is None or number < 0:
            raise self._wrong(key, value, f"a whole number from 0 to {_LARGEST:,}")
        return number

    def integers(self, *keys: str) -> tuple[int, ...]:
        """A list of integers, or a single one; they may be negative (layer indices from the end).

        Raises:
            MissingFactError: the key is absent.
            InvalidConfigError: any other value.
        """
        key, value = self._find(keys)
        if value is None:
            raise MissingFactError(self._path + keys[0])
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in values):
            raise self._wrong(key, value, "whole numbers")
        return values

    def number(self, *keys: str, default: float | None = None) -> float:
        """A number, integer or float."""
        key, value = self._find(keys)
        if value is None:
            if default is None:
                raise MissingFactError(self._path + keys[0])
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, value, "a number")
        return value

    def flag(self, *keys: str, default: bool = False) -> bool:
        """True or false."""
        key, value = self._find(keys)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def text(self, *keys: str) -> str | None:
        """A string, or None."""
        key, value = self._find(keys)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def items(self, *keys: str) -> tuple[Any, ...] | None:
        """A list, or None; the caller checks its entries."""
        key, value = self._find(keys)
        if value is not None and not isinstance(value, list | tuple):
            raise self._wrong(key, value, "a list")
        return None if value is None else tuple(value)

    def words(self, *keys: str) -> tuple[str, ...]:
        """A list of strings, given as a list or as one string separated by `|`; () if absent."""
        key, value = self._find(keys)
        if isinstance(value, str):
            return tuple(word.strip().lower() for word in value.split("|"))
        if value is not None and not (isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)):
            raise self._wrong(key, value, "words")
        return tuple(value or ())

    def entries(self, *keys: str) -> int | None:
        """The number of entries of a nested object (`id2label`: the labels of a classifier), or None."""
        for key in keys:
            value = self._config.get(key)
            if isinstance(value, Mapping):
                return len(value)
        return None

    def counts(self, *keys: str) -> Mapping[str, int]:
        """Sizes by name, as a nested object has them; empty if absent."""
        key, value = self._find(keys)
        found = {str(name): _whole(size) for name, size in value.items()} if isinstance(value, Mapping) else {}
        if value is not None and (not isinstance(value, Mapping) or None in found.values()):
            raise self._wrong(key, value, "sizes by name")
        return {name: size for name, size in found.items() if size is not None}

    def names(self) -> tuple[str, ...]:
        """The keys that the file itself has."""
        return tuple(self._config)

    def whole_numbers(self) -> dict[str, int]:
        """All integers by key, from the file or else the config class. Aliased keys are under the class's own name."""
        found = self._lookup() or ConfigClass()
        values = {**found.defaults, **{found.aliases.get(key, key): value for key, value in self._config.items()}}
        return {key: value for key, value in values.items() if isinstance(value, int) and not isinstance(value, bool)}

    def switched(self) -> tuple[str, ...]:
        """Flags in the file that differ from the config class's default."""
        found = self._lookup() or ConfigClass()
        return tuple(
            key
            for key, value in self._config.items()
            if isinstance(value, bool)
            and found.defaults.get(key) is not value
            and isinstance(found.defaults.get(key), bool)
        )

    def replaced(self) -> Mapping[str, tuple[str, str]]:
        """Strings in the file that differ from the config class's default: (file's, class's) by key."""
        found = self._lookup() or ConfigClass()
        words = {key: (value, found.defaults.get(key)) for key, value in self._config.items() if isinstance(value, str)}
        return {key: (own, other) for key, (own, other) in words.items() if isinstance(other, str) and own != other}

    def lacks(self, key: str) -> bool:
        """Whether the file has null where the config class has a value."""
        found = self._lookup() or ConfigClass()
        return self._config.get(key, 0) is None and found.defaults.get(key) is not None

    def fixes(self, key: str) -> bool:
        """Whether the config class has a nested config at a key that is missing in the file."""
        found = self._lookup() or ConfigClass()
        return key not in self._config and (key in found.parts or key in found.choices)

    def part(self, *keys: str) -> Facts | None:
        """A nested config such as `text_config`, or None if the file has none."""
        for key in keys:
            value = self._config.get(key)
            if isinstance(value, Mapping):
                found = self._lookup()
                return Facts(value, found.parts.get(key) if found else None, f"{self._path}{key}.")
        return None

    def nested(self, key: str, model_type: str = "", *, merged: bool = False) -> Facts:
        """A nested config as the class builds it. Its type is the one fixed by the class, else the file's, else the
        class's default, else `model_type`. If the file has no such config (with `merged`: also for missing keys), the
        class's `assumed` values are used."""
        found = self._lookup() or ConfigClass()
        value = self._config.get(key)
        assumed = found.assumed.get(key, {})
        values = ({**assumed, **value} if merged else value) if isinstance(value, Mapping) else assumed
        default = found.choices.get(key, model_type)
        fixed = found.parts.get(key)
        return Facts({**values, "model_type": fixed} if fixed else values, default, f"{self._path}{key}.")

    def changed(self, **changes: Any) -> Facts:
        """The same config with some keys changed."""
        return Facts({**self._config, **changes}, self.model_type, self._path)

    def above(self, outer: Mapping[str, Any]) -> Facts:
        """The same config with the keys of another where it has none of its own."""
        return Facts({**outer, **self._config}, self.model_type, self._path)

    def alone(self, **changes: Any) -> Facts:
        """The same config with some keys changed, and without a config class: missing keys are absent."""
        found = self.changed(**changes)
        found._class = ConfigClass()
        return found

    def _find(self, keys: tuple[str, ...]) -> tuple[str, Any]:
        for key in keys:
            if key in self._config:
                return key, self._config[key]
        found = self._lookup()
        if found is None:
            return keys[0], None
        for key in keys:
            alias = found.aliases.get(key, key)
            spellings = (alias, *(other for other, name in found.aliases.items() if name == alias))
            for values in (self._config, found.defaults):
                for spelling in spellings:
                    if spelling in values:
                        return spelling, values[spelling]
        return keys[0], None

    def _wrong(self, key: str, value: Any, expected: str) -> InvalidConfigError:
        """The error for an impossible value, which is shortened if long."""
        return InvalidConfigError("", f"{self._path}{key} is {quoted(value)}, expected {expected}")

    def _lookup(self) -> ConfigClass | None:
        """The config class, looked up only when a key is missing in the file."""
        if self._class is None and self.model_type:
            self._class = config_class(self.model_type)
        return self._class


def _whole(value: Any) -> int | None:
    """An integer given as int, integral float or string of digits; None for other values, or too large ones."""
    number = None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        number = int(value) if value == int(value) else None
    elif isinstance(value, str) and value.isascii() and value.strip().isdecimal() and len(value) < _DIGITS:
        number = int(value)
    return number if number is None or number <= _LARGEST else None
