"""Options whose value cannot be, or that do not go with what else was asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from hfmem.errors import HfmemError, InvalidScenarioError, quoted

__all__ = [
    "ForeignOptionError",
    "IncompatibleOptionsError",
    "MisplacedOptionError",
    "MissingValueError",
    "ModelNameError",
    "NoFlashError",
    "NoTrainingError",
    "OnlyForError",
    "OptionRefusedError",
    "ProfileGpuError",
    "PromptError",
    "QuantisationError",
    "Range",
    "ReleaseError",
    "SeveralModelsError",
    "UnknownGpuError",
    "UnknownWordError",
    "UntracedError",
    "WrongValueError",
]


class Range(NamedTuple):
    """The numbers that an option takes: from `least` to `most`, or more than `above`, or to less than `below`."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None


class WrongValueError(InvalidScenarioError):
    """A value of the wrong type, or a number out of range.

    Attributes:
        option: what the option is called.
        value: a number that was given; of anything else the beginning of what Python shows of it, so that no object of
            a caller is kept.
        expected: the type, a tuple for several values; or the numbers that it takes.
    """

    def __init__(self, option: str, value: object, expected: type | Range) -> None:
        super().__init__()
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        self.option, self.expected = option, expected
        self.value: object = value if number else quoted(value)


class MissingValueError(InvalidScenarioError):
    """A word without letters, or None where there has to be a value.

    Attributes:
        option: what the option is called.
        empty: whether there is a word.
    """

    def __init__(self, option: str, *, empty: bool = False) -> None:
        super().__init__()
        self.option, self.empty = option, empty


class UnknownWordError(InvalidScenarioError):
    """A word that is not among those that an option takes.

    Attributes:
        option: what the option is called.
        word: what was given.
        known: what it takes.
        under: the word for `--method` or `--train` that takes no others; "" where none does.
    """

    def __init__(self, option: str, word: object, known: Iterable[str], *, under: str = "") -> None:
        super().__init__()
        self.option, self.word, self.known, self.under = option, str(word), tuple(known), under


class OptionRefusedError(InvalidScenarioError):
    """An option that its own declaration refuses: the message of a `Need`, of a `check` or of what reads its value.

    Attributes:
        option: what the option is called.
        declared: the message, as it follows the option's name.
    """

    def __init__(self, option: str, declared: str) -> None:
        super().__init__()
        self.option, self.declared = option, declared


class ForeignOptionError(InvalidScenarioError):
    """An option of engines, none of which was asked for.

    Attributes:
        option: its flag.
        owners: of each engine that has it, the word for `--runtime` and the name in sentences.
        meant: the option of every engine that may be meant; "" for none.
    """

    def __init__(self, option: str, owners: tuple[tuple[str, str], ...], meant: str = "") -> None:
        super().__init__()
        self.option, self.owners, self.meant = option, owners, meant


class MisplacedOptionError(InvalidScenarioError):
    """An option of training where a model is run, or the other way round.

    Attributes:
        option: its flag.
        mode: what was asked.
    """

    def __init__(self, option: str, mode: Literal["inference", "training"]) -> None:
        super().__init__()
        self.option, self.mode = option, mode


class IncompatibleOptionsError(InvalidScenarioError):
    """Two options that do not go together.

    Attributes:
        option, other: the flag of each, and its value where that matters.
    """

    def __init__(self, option: tuple[str, ...], other: tuple[str, ...]) -> None:
        super().__init__()
        self.option, self.other = option, other


class NoTrainingError(InvalidScenarioError):
    """An engine for inference, with a training method.

    Attributes:
        runtime: the engine.
        trainer: the program with which its project trains.
    """

    def __init__(self, runtime: str, trainer: str) -> None:
        super().__init__()
        self.runtime, self.trainer = runtime, trainer


class OnlyForError(InvalidScenarioError):
    """An option that goes with some values of another one only.

    Attributes:
        option: its flag.
        other: the other's.
        words: those values.
    """

    def __init__(self, option: str, other: str, words: Iterable[str]) -> None:
        super().__init__()
        self.option, self.other, self.words = option, other, tuple(words)


class PromptError(InvalidScenarioError):
    """A prompt that is longer than the sequence it is a part of.

    Attributes:
        prompt, seq: their tokens.
    """

    def __init__(self, prompt: int, seq: int) -> None:
        super().__init__()
        self.prompt, self.seq = prompt, seq


class QuantisationError(InvalidScenarioError):
    """`--quant` with a model that names another quantisation.

    Attributes:
        word: the option's value.
        named: the model as given.
    """

    def __init__(self, word: str, named: str) -> None:
        super().__init__()
        self.word, self.named = word, named


class NoFlashError(InvalidScenarioError):
    """Flash attention of a class that has none.

    Attributes:
        name, source: the class, and the release that it is of.
        runs: the implementation that it has.
    """

    def __init__(self, name: str, source: str, runs: str) -> None:
        super().__init__()
        self.name, self.source, self.runs = name, source, runs


class ReleaseError(InvalidScenarioError):
    """A release of an engine that is none, or that no rules go back to.

    Attributes:
        option: the option that names it.
        version: what was given.
        example: a release as it is written.
        oldest: the first that is known, where the given one is older.
        lacks: what needs that one: group offload, or a quantised number format; "" for anything.
    """

    def __init__(
        self, option: str, version: str | None, *, example: str = "", oldest: str = "", lacks: str = ""
    ) -> None:
        super().__init__()
        self.option, self.version, self.example, self.oldest, self.lacks = option, version, example, oldest, lacks


class UnknownGpuError(InvalidScenarioError):
    """A name of no accelerator, instance or size.

    Attributes:
        name: what was given.
        sold: the sizes in GB that the accelerator is sold with, where only the size is wrong.
        alike: names that may be meant.
    """

    def __init__(self, name: str, *, sold: Iterable[int] = (), alike: Iterable[str] = ()) -> None:
        super().__init__()
        self.name, self.sold, self.alike = name, tuple(sold), tuple(alike)


class ProfileGpuError(InvalidScenarioError):
    """A name that stands for the hardware saved on the user's Hub profile, which is not there or cannot be read.

    Attributes:
        name: what was given.
        why: `unread` (nobody asked the Hub); `offline`; `login` (there is no token); `nothing` (none is saved, or it
            is not public); `unknown` (nothing of it is in the table); `answer` (the Hub did not give it); `count` (it
            was given with a count).
        user: whose profile it is; "" where that is not known.
        owned: names and GB of what is saved, where none of it is in the table.
        cause: what the Hub answered instead.
    """

    def __init__(
        self,
        name: str,
        why: str = "unread",
        *,
        user: str = "",
        owned: tuple[tuple[str, int], ...] = (),
        cause: HfmemError | None = None,
    ) -> None:
        super().__init__()
        self.name, self.why, self.user, self.owned, self.cause = name, why, user, owned, cause


class SeveralModelsError(InvalidScenarioError):
    """Options for one model, where several run as one.

    Attributes:
        options: their flags.
    """

    def __init__(self, options: Iterable[str]) -> None:
        super().__init__()
        self.options = tuple(options)


class UntracedError(InvalidScenarioError):
    """A step that `--trace` does not run.

    Attributes:
        optimizers: those that it runs, where the way of training is at fault; empty where there are several
            accelerators.
    """

    def __init__(self, model: str = "", *, optimizers: Iterable[str] = ()) -> None:
        super().__init__(model)
        self.optimizers = tuple(optimizers)


class ModelNameError(InvalidScenarioError):
    """A value that is no name of a model.

    Attributes:
        given: the beginning of what Python shows of it.
        several: whether it may have been a list of them.
    """

    def __init__(self, given: object, *, several: bool = False) -> None:
        super().__init__()
        self.given, self.several = f"{given!r:.60}", several
