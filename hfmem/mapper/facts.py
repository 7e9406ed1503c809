"""Typed reading of config.json: a key in the file, else the class default, else absent. Never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hfmem.errors import InvalidConfigError, quoted
from hfmem.mapper.defaults import ConfigClass, config_class

__all__ = ["Facts", "MissingFactError"]


_LARGEST: Final = 10**15
_DIGITS: Final = 20
_LONGEST_TYPE: Final = 80


class MissingFactError(Exception):
    """A fact that neither the file nor the configuration class has. The mapper turns it into `unknown`.

    Attributes:
        key: the key that would be needed, with its path in the file.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)


class Facts:
    """Read-only view of one configuration object (the file's root, or a nested one such as `text_config`).

    Every reader takes several spellings of one key and returns the first that the file has; then the first that the
    configuration class has a default for. A key that is present and null counts as absent *without* falling back to
    the class: `"sliding_window": null` means no window, whatever the class would say.
    """

    def __init__(self, config: Mapping[str, Any], model_type: str | None = None, path: str = "") -> None:
        self._config = config
        self._path = path
        self._class: ConfigClass | None = None
        own = config.get("model_type")
        self.model_type: str = own[:_LONGEST_TYPE] if isinstance(own, str) and own else (model_type or "")

    def has(self, key: str) -> bool:
        """Whether the file itself has the key with a value."""
        return self._config.get(key) is not None

    def integer(self, *keys: str, default: int | None = None) -> int:
        """A whole number; `default` is for facts that the class derives from others when they are absent.

        Raises:
            MissingFactError: absent, and no default.
            InvalidConfigError: present, but not a whole number that can be a size.
        """
        value = self.optional_integer(*keys)
        if value is not None:
            return value
        if default is not None:
            return default
        raise MissingFactError(self._path + keys[0])

    def optional_integer(self, *keys: str) -> int | None:
        """A whole number of at least 0, or None."""
        key, value = self._find(keys)
        if value is None:
            return None
        number = _whole(value)
        if number is None or number < 0:
            raise self._wrong(key, value, f"a whole number from 0 to {_LARGEST:,}")
        return number

    def integers(self, *keys: str) -> tuple[int, ...]:
        """A list of whole numbers, or one of them alone; they may be negative (layers counted from the last).

        Raises:
            MissingFactError: absent.
            InvalidConfigError: something else.
        """
        key, value = self._find(keys)
        if value is None:
            raise MissingFactError(self._path + keys[0])
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in values):
            raise self._wrong(key, value, "whole numbers")
        return values

    def number(self, *keys: str, default: float | None = None) -> float:
        """A number, whole or not."""
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
        """A list as it stands, or None; the reader checks what is in it."""
        key, value = self._find(keys)
        if value is not None and not isinstance(value, list | tuple):
            raise self._wrong(key, value, "a list")
        return None if value is None else tuple(value)

    def words(self, *keys: str) -> tuple[str, ...]:
        """A list of words, written as a list or as one string with `|` between them; () where there is none."""
        key, value = self._find(keys)
        if isinstance(value, str):
            return tuple(word.strip().lower() for word in value.split("|"))
        if value is not None and not (isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)):
            raise self._wrong(key, value, "words")
        return tuple(value or ())

    def entries(self, *keys: str) -> int | None:
        """How many entries a nested object has (`id2label`: the labels of a classifier), or None."""
        for key in keys:
            value = self._config.get(key)
            if isinstance(value, Mapping):
                return len(value)
        return None

    def names(self) -> tuple[str, ...]:
        """The keys that the file itself has."""
        return tuple(self._config)

    def whole_numbers(self) -> dict[str, int]:
        """Every whole number, by its key: of the file, else of the configuration class. Keys that the class knows by
        two names are under the one of its own."""
        found = self._lookup() or ConfigClass()
        values = {**found.defaults, **{found.aliases.get(key, key): value for key, value in self._config.items()}}
        return {key: value for key, value in values.items() if isinstance(value, int) and not isinstance(value, bool)}

    def switched(self) -> tuple[str, ...]:
        """Flags of the file that the configuration class has the other way round."""
        found = self._lookup() or ConfigClass()
        return tuple(
            key
            for key, value in self._config.items()
            if isinstance(value, bool)
            and found.defaults.get(key) is not value
            and isinstance(found.defaults.get(key), bool)
        )

    def replaced(self) -> Mapping[str, tuple[str, str]]:
        """Words of the file that the configuration class has another one for: the file's and the class's, by key."""
        found = self._lookup() or ConfigClass()
        words = {key: (value, found.defaults.get(key)) for key, value in self._config.items() if isinstance(value, str)}
        return {key: (own, other) for key, (own, other) in words.items() if isinstance(other, str) and own != other}

    def lacks(self, key: str) -> bool:
        """Whether the file says null where the configuration class has a value."""
        found = self._lookup() or ConfigClass()
        return self._config.get(key, 0) is None and found.defaults.get(key) is not None

    def fixes(self, key: str) -> bool:
        """Whether the configuration class has a nested configuration at the key that the file leaves out."""
        found = self._lookup() or ConfigClass()
        return key not in self._config and (key in found.parts or key in found.choices)

    def part(self, *keys: str) -> Facts | None:
        """A nested configuration such as `text_config`, or None where the file has none."""
        for key in keys:
            value = self._config.get(key)
            if isinstance(value, Mapping):
                found = self._lookup()
                return Facts(value, found.parts.get(key) if found else None, f"{self._path}{key}.")
        return None

    def nested(self, key: str, model_type: str = "", *, merged: bool = False) -> Facts:
        """A nested configuration as the class makes it: of the type that the class fixes, else the file's own, else the
        class's choice, else `model_type`; where the file has none (with `merged`: also for keys that it leaves out), of
        the class's assumptions."""
        found = self._lookup() or ConfigClass()
        value = self._config.get(key)
        assumed = found.assumed.get(key, {})
        values = ({**assumed, **value} if merged else value) if isinstance(value, Mapping) else assumed
        default = found.choices.get(key, model_type)
        fixed = found.parts.get(key)
        return Facts({**values, "model_type": fixed} if fixed else values, default, f"{self._path}{key}.")

    def changed(self, **changes: Any) -> Facts:
        """The same configuration with some keys changed."""
        return Facts({**self._config, **changes}, self.model_type, self._path)

    def alone(self, **changes: Any) -> Facts:
        """The same configuration with some keys changed, of a type without a class: what the file leaves out is absent,
        and nothing is looked up."""
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
        """What is said of a value that cannot be meant; of long ones the beginning."""
        return InvalidConfigError("", f"{self._path}{key} is {quoted(value)}, expected {expected}")

    def _lookup(self) -> ConfigClass | None:
        """The configuration class, looked up only when the file leaves something out."""
        if self._class is None and self.model_type:
            self._class = config_class(self.model_type)
        return self._class


def _whole(value: Any) -> int | None:
    """A whole number in any of its spellings; None for what is none, or larger than any size."""
    number = None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        number = int(value) if value == int(value) else None
    elif isinstance(value, str) and value.isascii() and value.strip().isdecimal() and len(value) < _DIGITS:
        number = int(value)
    return number if number is None or number <= _LARGEST else None
