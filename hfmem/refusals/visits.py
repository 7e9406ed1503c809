"""What a page refuses that anyone may open: more than it computes for one visitor, and what is this machine's own."""

from __future__ import annotations

from hfmem.errors import InvalidScenarioError

__all__ = ["BusyError", "NotHereError", "TooLongError", "TooManyError", "UnknownKeyError"]


class TooManyError(InvalidScenarioError):
    """More than the page computes at once.

    Attributes:
        what: what there is too much of, in the plural.
        given: how many were asked for.
        most: how many it takes.
        option: the flag whose values they are; "" for none.
    """

    def __init__(self, what: str, given: int, most: int, option: str = "") -> None:
        super().__init__()
        self.what, self.given, self.most, self.option = what, given, most, option


class TooLongError(InvalidScenarioError):
    """A value of too many characters.

    Attributes:
        option: the option's flag, or `model`.
        most: the characters it may have.
    """

    def __init__(self, option: str, most: int) -> None:
        super().__init__()
        self.option, self.most = option, most


class UnknownKeyError(InvalidScenarioError):
    """A key of an address that is no option.

    Attributes:
        key: the key.
        meant: the option that may be meant; "" for none.
    """

    def __init__(self, key: str, meant: str = "") -> None:
        super().__init__()
        self.key, self.meant = key, meant


class NotHereError(InvalidScenarioError):
    """What would be read from, or run on, the machine that serves the page.

    Attributes:
        option: the option's flag, or `model`.
        value: what was given.
    """

    def __init__(self, option: str, value: str) -> None:
        super().__init__()
        self.option, self.value = option, value


class BusyError(InvalidScenarioError):
    """Too many visitors at once, or an answer that takes too long.

    Attributes:
        seconds: after how many seconds an answer was given up; None where it was not begun.
    """

    def __init__(self, seconds: int | None = None) -> None:
        super().__init__()
        self.seconds = seconds
