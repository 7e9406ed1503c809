"""What a visitor asks, read from an address or from a program's values, and bounded: a page that anyone may open takes
so much and no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from hfmem.errors import cut
from hfmem.fetcher.identity import is_model_id, is_path, reference
from hfmem.fetcher.values import ModelRef
from hfmem.hardware.spelling import counted
from hfmem.options.option import Declared, flag, value_of
from hfmem.options.reading import near
from hfmem.options.written import written
from hfmem.refusals.options import Range, UnknownWordError, WrongValueError
from hfmem.refusals.visits import NotHereError, TooLongError, TooManyError, UnknownKeyError
from hfmem.scenario.check import check
from hfmem.scenario.options import Options, options_type
from hfmem.units import UNITS
from hfmem.web.controls import asked_here, is_size

__all__ = ["MOST_MODELS", "Question"]

MOST_MODELS: Final = 8
MOST_VALUES: Final = 8
"""Values of one option, such as accelerators."""

LONGEST: Final = 200
"""Characters of a value; the longest ids of the Hub have 193."""

MOST_RANKS: Final = 1024
"""Accelerators of a plan: each that differs from the others takes time."""

_OURS: Final = ("gpu",)
_HERE: Final = ("auto", "me", "cpu")
"""Values of `--gpu` that are about the machine itself."""

_YES: Final = ("on", "true", "yes", "1")
_NO: Final = ("off", "false", "no", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question as it was written.

    Attributes:
        models: what was written for each model.
        given: what was written for each option, by its field; an option without a value is left out.
        unit: the unit of the answer.
    """

    models: tuple[str, ...]
    given: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unit: str = "GiB"

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Question:
        """The question in the keys and values of an address. Keys of others (`utm_source`) are left out.

        Raises:
            InvalidScenarioError: more or longer values than are taken, or a key that is nearly an option's.
        """
        names = _names()
        found: dict[str, list[str]] = {}
        for key, value in pairs:
            name = names.get(key.replace("-", "_"))
            if name is None:
                _known(key, names)
            elif value.strip():
                found.setdefault(name, []).append(_short(name, value.strip()))
        models = found.pop("model", [])
        unit = found.pop("unit", ["GiB"])[-1]
        if unit not in UNITS:
            raise UnknownWordError(flag("unit"), unit, UNITS)
        if len(models) > MOST_MODELS:
            raise TooManyError("models", len(models), MOST_MODELS)
        for name, values in found.items():
            if len(values) > MOST_VALUES:
                raise TooManyError("values", len(values), MOST_VALUES, flag(name))
        return cls(models=tuple(models), given={name: tuple(values) for name, values in found.items()}, unit=unit)

    def address(self) -> str:
        """The query of an address that asks the same."""
        pairs = [("model", model) for model in self.models]
        pairs += [(name, value) for name, values in self.given.items() for value in values]
        return urlencode(pairs if self.unit == "GiB" else [*pairs, ("unit", self.unit)])

    def refs(self, *, private: bool = False) -> tuple[ModelRef, ...]:
        """The models.

        Raises:
            NotHereError: a path, where the machine is not the visitor's own.
        """
        refs = tuple(dict.fromkeys(reference(text, paths=private) for text in self.models))
        for ref in refs:
            if not private and not is_model_id(ref.model_id):
                raise NotHereError("model", cut(ref.asked))
        return refs

    def options(self, *, private: bool = False) -> Options:
        """The options, checked as on the command line.

        Args:
            private: whether the page is its visitor's own, so that it may look at the machine.

        Raises:
            InvalidScenarioError: a value that is wrong, or what is not for others to ask.
        """
        values: dict[str, Any] = {}
        for option in asked_here():
            texts = self.given.get(option.name)
            if texts:
                if not private:
                    _not_of_the_machine(option, texts)
                values[option.name] = _value(option, texts)
        _few_ranks(values)
        options = options_type()(**values)
        check(options)
        return options


def _names() -> dict[str, str]:
    """The fields by every key that stands for them."""
    found = {"model": "model", "models": "model", "unit": "unit"}
    for option in asked_here():
        names = (option.name, *(flag.lstrip("-").replace("-", "_") for flag in option.flags if len(flag) > 2))
        found |= dict.fromkeys(names, option.name)
    return found


def _known(key: str, names: Mapping[str, str]) -> None:
    """Refuse a key that is nearly one of ours, so that no misspelt option is lost in silence."""
    if key.startswith("_") or key in ("view", "theme"):
        return
    if meant := near(key.replace("-", "_"), names):
        raise UnknownKeyError(cut(key), meant[0])


def _short(name: str, value: str) -> str:
    if len(value) > LONGEST:
        raise TooLongError("model" if name == "model" else flag(name), LONGEST)
    return value


def _not_of_the_machine(option: Declared, texts: Iterable[str]) -> None:
    """Refuse what would look at the machine that serves the page."""
    for text in texts:
        if is_path(text) or (option.name in _OURS and counted(text)[0].lower() in _HERE):
            raise NotHereError(option.flags[0], cut(text))


def _value(option: Declared, texts: tuple[str, ...]) -> Any:
    """The value of an option from its fields; of several for one value, the last counts."""
    if option.kind is bool:
        word = texts[-1].lower()
        return True if word in _YES else False if word in _NO else texts[-1]
    if option.several:
        return value_of(option, ",".join(texts) if option.option.words else list(written(option, list(texts))))
    return value_of(option, written(option, texts[-1]))


def _few_ranks(values: Mapping[str, Any]) -> None:
    """Bound the parallel sizes, and what they make together.

    Raises:
        InvalidScenarioError: they are larger.
    """
    together = 1
    for option in asked_here():
        size = values.get(option.name)
        if is_size(option) and isinstance(size, int) and size > 0:
            if size > MOST_RANKS:
                raise WrongValueError(option.flags[0], size, Range(least=1, most=MOST_RANKS))
            together *= size if option.name in ("tp", "pp", "dp", "cp") else 1
    counts = [counted(name)[1] or 1 for name in values.get("gpu", ())]
    if (most := max([together, *counts])) > MOST_RANKS:
        raise TooManyError("accelerators", most, MOST_RANKS)
