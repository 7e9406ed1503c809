"""Validation of options by their declarations, with the same sentences for Python and the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from hfmem.errors import quoted
from hfmem.options.option import Declared
from hfmem.options.reading import not_one_of
from hfmem.options.words import Mode

__all__ = ["Owners", "idle", "mode_of", "refusals", "wrong"]

_ENORMOUS: Final = 10**9  # larger numbers are not repeated in messages


Owners = Mapping[str, tuple[tuple[str, str], ...]]
"""For each option of an engine, the engines that have it: the value of `--runtime`, and the name in sentences."""


def mode_of(asked: Any) -> Mode:
    """The mode: inference or training."""
    return "training" if asked.train is not None else "inference"


def refusals(options: Iterable[Declared], asked: Any, owners: Owners) -> Iterator[str]:
    """A sentence for each option to reject, as it has no effect in combination with the others.

    Args:
        options: the options to check.
        asked: an object with all options as attributes; on the command line also `several`, whether there are several
            models.
        owners: for each option of an engine, the engines that have it.
    """
    for option in options:
        if option.asked(asked):
            told = _misplaced(option, asked, owners.get(option.name, ())) or _unmet(option, asked, harmless=False)
            if told:
                yield f"{option.flags[0]} {told}"


def idle(options: Iterable[Declared], asked: Any) -> tuple[str, ...]:
    """A sentence for each harmless option without effect in combination with the others."""
    told = [(option, _unmet(option, asked, harmless=True)) for option in options if option.asked(asked)]
    return tuple(f"{option.flags[0]} {sentence}" for option, sentence in told if sentence)


def _misplaced(option: Declared, asked: Any, owners: tuple[tuple[str, str], ...]) -> str | None:
    """Why an option does not apply to this engine, method or mode."""
    rules, mode = option.option, mode_of(asked)
    if owners and asked.runtime not in [name for name, _ in owners]:
        titles = " and ".join(title for _, title in owners)
        return f"is an option of {titles}: add --runtime {owners[0][0]}"
    if rules.modes and mode not in rules.modes:
        return "needs --train" if mode == "inference" else "is for inference"
    if rules.methods and asked.method not in rules.methods:
        return f"cannot be used with --method {asked.method}"
    if rules.train and asked.train is not None and asked.train not in rules.train:
        return f"is for --train {' and '.join(rules.train)}"
    return None


def _unmet(option: Declared, asked: Any, *, harmless: bool) -> str | None:
    needs = (need for need in option.option.needs if need.harmless == harmless)
    return next((need.sentence for need in needs if not need.met(asked)), None)


def wrong(option: Declared, value: Any) -> str | None:
    """What is wrong with a single value, as a sentence; None if it is valid."""
    if value is None:
        return None if option.default is None else f"{option.called} cannot be None"
    if option.several and not isinstance(value, tuple):
        return f"{option.called} is {_shown(value)}, expected a list"
    for single in value if option.several else (value,):
        told = _mistyped(option, single) or _not_among(option, single) or _out_of_range(option, single)
        if told is None and option.option.check is not None:
            told = option.option.check(single)
        if told is not None:
            return f"{option.called} {told}"
    return None


_KINDS: Final[dict[type, str]] = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    bool: "true or false",
}


def _mistyped(option: Declared, value: Any) -> str | None:
    kinds = (int, float) if option.kind is float else option.kind
    if isinstance(value, str) and option.kind is str and not value.strip():
        return "is empty: give a value or omit it"
    if isinstance(value, kinds) and (option.kind is bool or not isinstance(value, bool)):
        return None
    # a float of ordinary size is shown in full
    seen = str(value) if isinstance(value, float) and abs(value) <= _ENORMOUS else _shown(value)
    return f"is {seen}, expected {_KINDS.get(option.kind, option.kind.__name__)}"


def _not_among(option: Declared, value: Any) -> str | None:
    choices = option.choices
    return not_one_of(value, choices) if choices and value not in choices else None


def _out_of_range(option: Declared, value: Any) -> str | None:
    rules = option.option
    held = (
        (rules.least is None or value >= rules.least)
        and (rules.most is None or value <= rules.most)
        and (rules.above is None or value > rules.above)
        and (rules.below is None or value < rules.below)
    )
    return None if held else f"is {_shown(value)}, expected {_range(option)}"


def _range(option: Declared) -> str:
    """The allowed numbers, in words."""
    rules = option.option
    if rules.above is not None:
        return (
            f"more than {rules.above:,g} and at most {rules.most:,g}" if rules.most else f"more than {rules.above:,g}"
        )
    if rules.below is not None:
        return f"{rules.least:,g} to below {rules.below:,g}"
    return f"{rules.least:,} to {rules.most:,}" if rules.most is not None else f"at least {rules.least:,}"


def _shown(value: Any) -> str:
    """A value in a sentence; numbers with thousands of digits are not printed."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "enormous" if abs(value) > _ENORMOUS else f"{value:g}" if isinstance(value, float) else str(value)
    return quoted(value)
