"""Validation of options by their declarations, the same for Python and the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from hfmem.errors import InvalidScenarioError
from hfmem.options.option import Declared
from hfmem.options.words import OBJECTIVES, Mode, TrainMethod, trained_as
from hfmem.refusals.options import (
    ForeignOptionError,
    IncompatibleOptionsError,
    MisplacedOptionError,
    MissingValueError,
    OnlyForError,
    OptionRefusedError,
    Range,
    UnknownWordError,
    WrongValueError,
)

__all__ = ["Owners", "idle", "mode_of", "refusals", "wrong"]

Owners = Mapping[str, tuple[tuple[str, str, bool], ...]]
"""For each option of an engine, the engines that have it: the value of `--runtime`, the name in sentences, and whether
the engine may be chosen by the model if the user does not choose one."""


def _owned(runtime: str | None, owners: tuple[tuple[str, str, bool], ...]) -> bool:
    """Whether the engine has an option; without a choice of engine, whether one has it that a model may choose."""
    return any(chosen if runtime is None else name == runtime for name, _, chosen in owners)


def mode_of(asked: Any) -> Mode:
    """The mode: inference or training."""
    return "training" if asked.train is not None else "inference"


def refusals(options: Iterable[Declared], asked: Any, owners: Owners) -> Iterator[InvalidScenarioError]:
    """An error for each option to reject, as it has no effect in combination with the others.

    Args:
        options: the options to check.
        asked: an object with all options as attributes; on the command line also `several`, whether there are several
            models.
        owners: for each option of an engine, the engines that have it.
    """
    for option in options:
        if option.asked(asked):
            misplaced = _misplaced(option, asked, owners.get(option.name, ()))
            if misplaced is not None:
                yield misplaced
            elif unmet := _unmet(option, asked, harmless=False):
                yield OptionRefusedError(option.flags[0], unmet)


def idle(options: Iterable[Declared], asked: Any) -> tuple[str, ...]:
    """A sentence for each harmless option without effect in combination with the others."""
    told = [(option, _unmet(option, asked, harmless=True)) for option in options if option.asked(asked)]
    return tuple(f"{option.flags[0]} {sentence}" for option, sentence in told if sentence)


def _misplaced(option: Declared, asked: Any, owners: tuple[tuple[str, str, bool], ...]) -> InvalidScenarioError | None:
    """Why an option does not apply to this engine, method or mode."""
    rules, mode, flag = option.option, mode_of(asked), option.flags[0]
    if owners and not _owned(asked.runtime, owners):
        return ForeignOptionError(flag, tuple((name, title) for name, title, _ in owners), option.option.mistaken)
    if rules.modes and mode not in rules.modes:
        return MisplacedOptionError(flag, mode)
    if rules.methods and asked.method not in rules.methods:
        return IncompatibleOptionsError((flag,), ("--method", asked.method))
    if rules.train and asked.train is not None and not {asked.train, trained_as(asked)} & {*rules.train}:
        methods = asked.train in OBJECTIVES and {*rules.train} <= {*get_args(TrainMethod)}
        return OnlyForError(flag, "--train-method" if methods else "--train", rules.train)
    return None


def _unmet(option: Declared, asked: Any, *, harmless: bool) -> str | None:
    needs = (need for need in option.option.needs if need.harmless == harmless)
    return next((need.sentence for need in needs if not need.met(asked)), None)


def wrong(option: Declared, value: Any) -> InvalidScenarioError | None:
    """What is wrong with a single value; None if it is valid."""
    if value is None:
        return None if option.default is None else MissingValueError(option.called)
    if option.several and not isinstance(value, tuple):
        return WrongValueError(option.called, value, tuple)
    for single in value if isinstance(value, tuple) and option.listed else (value,):
        error = _mistyped(option, single) or _not_among(option, single) or _out_of_range(option, single)
        if error is None and option.option.check is not None:
            error = _checked(option, option.option.check(single))
        if error is not None:
            return error
    return None


def _mistyped(option: Declared, value: Any) -> InvalidScenarioError | None:
    kinds = (int, float) if option.kind is float else option.kind
    if isinstance(value, str) and option.kind is str and not value.strip():
        return MissingValueError(option.called, empty=True)
    if isinstance(value, kinds) and (option.kind is bool or not isinstance(value, bool)):
        return None
    return WrongValueError(option.called, value, option.kind)


def _not_among(option: Declared, value: Any) -> InvalidScenarioError | None:
    choices = option.choices
    return UnknownWordError(option.called, value, choices) if choices and value not in choices else None


def _out_of_range(option: Declared, value: Any) -> InvalidScenarioError | None:
    rules = option.option
    held = (
        (rules.least is None or value >= rules.least)
        and (rules.most is None or value <= rules.most)
        and (rules.above is None or value > rules.above)
        and (rules.below is None or value < rules.below)
    )
    taken = Range(least=rules.least, most=rules.most, above=rules.above, below=rules.below)
    return None if held or value == rules.also else WrongValueError(option.called, value, taken)


def _checked(option: Declared, found: InvalidScenarioError | str | None) -> InvalidScenarioError | None:
    """The result of the option's own check as an error; a message becomes an `OptionRefusedError`."""
    return OptionRefusedError(option.called, found) if isinstance(found, str) else found
