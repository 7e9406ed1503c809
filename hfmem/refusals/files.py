"""Files and variables that cannot be read, or that say what cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from hfmem.errors import InvalidScenarioError, quoted

__all__ = [
    "DefaultsFileError",
    "KeyConflictError",
    "KeyValueError",
    "MissingTowerError",
    "Setting",
    "TrainingFileError",
    "UnreadableFileError",
    "UnreadableVariableError",
]


class Setting(NamedTuple):
    """A key of a file, with its value as JSON and YAML have it."""

    file: str
    key: str
    value: Any


class UnreadableFileError(InvalidScenarioError):
    """A file that an option names and that cannot be read.

    Attributes:
        option: its flag.
        file: the file's name as it was given.
        why: what the system says; None of what is no text.
    """

    def __init__(self, option: str, file: object, why: str | None) -> None:
        super().__init__()
        self.option, self.file, self.why = option, str(file), why


class MissingTowerError(InvalidScenarioError):
    """A file of a tower that is neither in the repository nor on this machine.

    Attributes:
        option: the flag that names it.
        file: the file's name as it was given.
        beside: the id of the model that it would run beside.
        known: the towers that the repository has.
    """

    def __init__(self, option: str, file: str, beside: str, known: Iterable[str]) -> None:
        super().__init__()
        self.option, self.file, self.beside, self.known = option, file, beside, tuple(known)


class UnreadableVariableError(InvalidScenarioError):
    """A variable of the environment that the Hub's client cannot read.

    Attributes:
        name: the variable; "" where it is one of several.
        why: what the client says.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__()
        self.name, self.why = name, why


class DefaultsFileError(InvalidScenarioError):
    """A file with defaults of one's own that cannot be read, or has a key or value that cannot be.

    Attributes:
        file: its path.
        key: the key; "" if it is the whole file.
        known: the keys that there are; empty if the key is one of them.
        cause: what is wrong with the value.
        why: why the file cannot be read.
    """

    def __init__(
        self,
        file: str,
        *,
        key: str = "",
        known: tuple[str, ...] = (),
        cause: InvalidScenarioError | None = None,
        why: str = "",
    ) -> None:
        super().__init__()
        self.file, self.key, self.known, self.cause, self.why = file, key, known, cause, why


class TrainingFileError(InvalidScenarioError):
    """A training file that has no keys.

    Attributes:
        file: its path.
        fault: whether it is no text of JSON or YAML (`syntax`), no mapping, or of more than `most` values.
        most: the values that are read of a file.
    """

    def __init__(self, file: object, fault: Literal["syntax", "mapping", "size"], *, most: int = 0) -> None:
        super().__init__()
        self.file, self.fault, self.most = str(file), fault, most


class KeyValueError(InvalidScenarioError):
    """A value of a training file that its key cannot have.

    Attributes:
        key: its name.
        value: the beginning of the value.
    """

    def __init__(self, key: str, value: object) -> None:
        super().__init__()
        self.key, self.value = key, quoted(str(value))


class KeyConflictError(InvalidScenarioError):
    """Two keys of training files that the trainer does not take together.

    Attributes:
        first, second: the keys with their values.
        equal: whether they have to be equal; else only one of them may be true.
    """

    def __init__(self, first: Setting, second: Setting, *, equal: bool) -> None:
        super().__init__()
        self.first, self.second, self.equal = first, second, equal
