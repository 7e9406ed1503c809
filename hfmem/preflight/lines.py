"""From the launch line of a server to the words of `hfmem` that ask the same."""

from __future__ import annotations

import json
import re
import shlex
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from math import prod
from typing import Final

from hfmem.engines.launch import Launch
from hfmem.engines.table import EngineRow, engines
from hfmem.options.option import Declared, declared
from hfmem.refusals.launch import LaunchLineError, LaunchOptionError
from hfmem.scenario.asked import Asked, extended

__all__ = ["Question", "launch_lines", "question"]

_ENDS: Final = re.compile(r"&&?|\|\|?|;|\d?>>?.*|<")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What `hfmem` is asked.

    Attributes:
        name: the file or line that is checked.
        words: the arguments of `hfmem`.
        whole_context: whether the line names no length, and its program takes the model's own maximum.
        ignored: options of the line that change no memory, or were said to change none.
    """

    name: str
    words: tuple[str, ...]
    whole_context: bool = False
    ignored: tuple[str, ...] = ()


@cache
def _launches() -> tuple[tuple[EngineRow, Launch], ...]:
    return tuple((row, import_module(row.launch).LAUNCH) for row in engines() if row.launch)


@cache
def _options() -> Mapping[str, Declared]:
    """The options of a scenario, by each of their names on the command line."""
    names: dict[str, Declared] = {}
    for option in declared(extended(Asked)):
        for flag in (*option.flags, *([option.opposite] if option.opposite else [])):
            names[flag] = option
    return names


def launch_lines(text: str) -> Iterator[str]:
    """The launch lines of a script, with lines that a backslash continues in one. Comments are none."""
    begins = [" ".join(words) for _, launch in _launches() for words in launch.begins]
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        told = line.strip()
        if not told.startswith("#") and any(
            re.search(rf"(^|[\s/]){re.escape(each)}(:\S+)?\s", told) for each in begins
        ):
            yield told


def question(line: str, ignore: Collection[str] = ()) -> Question:
    """The question that a launch line asks.

    Args:
        line: as it stands in a script.
        ignore: options of the program that change no memory, beside those that are known.

    Raises:
        LaunchLineError: no program is known that it begins, or it names no model.
        LaunchOptionError: it has an option of which it is not known whether it takes memory.
    """
    words = _words(line)
    for row, launch in _launches():
        for begins in launch.begins:
            for start in range(len(words) - len(begins) + 1):
                found = [_program(word) for word in words[start : start + len(begins)]]
                if found == list(begins):
                    given = words[start + len(begins) :]
                    return _Reading(begins, launch, ignore).read(line, row.name, given)
    raise LaunchLineError(line, "program", [launch.begins[0] for _, launch in _launches()])


def _program(word: str) -> str:
    """The name of a program or an image, without its folder and tag."""
    return word.rpartition("/")[2].partition(":")[0]


def _words(line: str) -> list[str]:
    """The words of a line up to where the shell ends its command."""
    try:
        words = shlex.split(re.sub(r"\\\n\s*", " ", line), comments=True)
    except ValueError:
        raise LaunchLineError(line, "quotes") from None
    end = next((number for number, word in enumerate(words) if _ENDS.fullmatch(word)), len(words))
    return words[:end]


@dataclass(slots=True)
class _Reading:
    """A line while it is read."""

    program: tuple[str, ...]
    launch: Launch
    ignore: Collection[str]
    model: str = ""
    found: dict[str, list[str]] = field(default_factory=dict)
    products: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def read(self, line: str, engine: str, words: list[str]) -> Question:
        """Each word in turn: the model, an option of `hfmem`, one of the program's own, or one that is let through."""
        rest = deque(words)
        while rest:
            word = rest.popleft()
            if word.startswith("-"):
                name, equals, value = word.partition("=")
                if equals:
                    rest.appendleft(value)
                option, dot, key = name.partition(".")
                self._option(option.replace("_", "-") + dot + key if name.startswith("--") else name, rest)
            elif self.launch.positional and not self.model:
                self.model = word
            else:
                raise LaunchOptionError(self.program, word)
        if not self.model:
            raise LaunchLineError(line, "model")
        for flag in self.products:
            option, factors = self.launch.products[flag]
            self.found[option] = [str(prod(int(self.found.get(name, ["1"])[-1]) for name in factors))]
        self.found |= {name: [value] for name, value in self.launch.missing.items() if name not in self.found}
        options = [word for name, values in self.found.items() for value in values for word in (name, value) if word]
        length = self.launch.length
        return Question(
            name=line,
            words=(self.model, "--runtime", engine, *options),
            whole_context=bool(length) and not self.found.keys() & set(_options()[length].flags),
            ignored=tuple(self.ignored),
        )

    def _option(self, name: str, rest: deque[str]) -> None:
        launch = self.launch
        known = launch.renamed.get(name, name)
        if name in launch.model:
            self.model = _value(rest)
        elif name in launch.products:
            self.products.append(name)
        elif (parts := name.partition("."))[0] in launch.dotted and parts[2]:
            self._keyed(parts[0], parts[2], _value(rest))
        elif known in launch.values or known in _options():
            self._known(name, known, rest)
        elif name in launch.idle or name in launch.idle_with_value or name in self.ignore:
            self.ignored.append(name)
            if name in launch.idle_with_value or (name in self.ignore and rest and not rest[0].startswith("-")):
                _value(rest)
        else:
            raise LaunchOptionError(self.program, name)

    def _keyed(self, name: str, key: str, told: str) -> None:
        """One key of an option that is a JSON object, or of an object in it; a value that is no JSON is a word."""
        try:
            value = json.loads(told)
        except ValueError:
            value = told
        for part in reversed(key.split(".")):
            value = {part: value}
        self.found[name] = [json.dumps(_with(json.loads(self.found.get(name, ["{}"])[-1]), value))]

    def _known(self, name: str, known: str, rest: deque[str]) -> None:
        """An option that `hfmem` has."""
        option = _options().get(known)
        if option is not None and option.kind is bool:
            self.found[known] = [""]
            return
        alone = option.option.alone if option is not None else ""
        bare = bool(alone) and (not rest or rest[0] not in (option.choices if option is not None else ()))
        told = alone if bare else _value(rest)
        meant = self.launch.values.get(known, {}).get(told, told)
        if meant is None:
            return
        if isinstance(meant, tuple):
            known, meant = meant
        elif option is None:  # an option that only some values of are understood
            raise LaunchOptionError(self.program, name, told)
        several = option is not None and option.several
        self.found[known] = [*(self.found.get(known, []) if several else []), meant]


def _with(found: object, value: object) -> object:
    """An object with another's keys, which win."""
    if not isinstance(found, dict) or not isinstance(value, dict):
        return value
    return found | {key: _with(found.get(key), one) for key, one in value.items()}


def _value(rest: deque[str]) -> str:
    """The next word; "" at the end of the line, which `hfmem` refuses."""
    return rest.popleft() if rest else ""
