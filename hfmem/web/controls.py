"""The controls of the page, one for each option of a scenario, made from its declaration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from hfmem.engines.table import engines
from hfmem.options.option import Declared, declared
from hfmem.options.panels import PARALLELISM, in_order
from hfmem.options.written import NUMBERS
from hfmem.scenario.asked import owners
from hfmem.scenario.options import options_type

__all__ = ["Control", "Kind", "asked_here", "by_use", "controls", "is_size", "known_words", "panels", "titles"]

Kind = Literal["choice", "switch", "answer", "number", "text", "list"]
"""A word of a few; on or off; yes, no or the default; a number; one text; several texts, one in each field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One control.

    Attributes:
        name: the option's field, which is its key in addresses too.
        flag: its name on the command line.
        label: its name in words.
        kind: what is drawn.
        help: one sentence.
        panel: its heading.
        common: whether it is shown at once; the others unfold.
        choices: the words to choose from.
        shown: the default, in words; "" where it is not told.
        engines: the engines it belongs to; () for all.
        modes, methods, train: what it applies to; () for all.
    """

    name: str
    flag: str
    label: str
    kind: Kind
    help: str
    panel: str
    common: bool
    choices: tuple[str, ...] = ()
    shown: str = ""
    engines: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    train: tuple[str, ...] = ()


def asked_here() -> tuple[Declared, ...]:
    """The options that can be asked for on a page: those of a scenario, without what is about the machine that serves
    it."""
    return tuple(
        option for option in declared(options_type()) if not option.option.own and not issubclass(option.kind, Path)
    )


def controls() -> tuple[Control, ...]:
    """The controls, in the order of the table."""
    owned = owners()
    return tuple(_control(option, tuple(name for name, _, _ in owned.get(option.name, ()))) for option in asked_here())


_FIRST: Final = ("gpu", "runtime", "seq", "batch", "dtype", "kv_dtype", "gpus", "train")


def by_use(of: Iterable[Control]) -> list[Control]:
    """Controls with the common ones first, and of these what is asked for most."""
    order = {name: number for number, name in enumerate(_FIRST)}
    return sorted(of, key=lambda control: (not control.common, order.get(control.name, len(order))))


def _control(option: Declared, names: tuple[str, ...]) -> Control:
    rules = option.option
    return Control(
        name=option.name,
        flag=option.flags[0],
        label=_label(option.name),
        kind=_kind(option),
        help=rules.help,
        panel=rules.panel,
        common=rules.common or option.name == "method",
        choices=option.choices,
        shown=_default(option),
        engines=names,
        modes=rules.modes or (("training",) if rules.train else ()),
        methods=rules.methods,
        train=rules.train,
    )


def _kind(option: Declared) -> Kind:
    if option.kind is bool:
        return "switch" if option.default is False else "answer"
    if option.choices:
        return "choice"
    if option.several and not option.option.words:
        return "list"
    return "number" if option.kind in NUMBERS else "text"


def _default(option: Declared) -> str:
    """The default in words."""
    if option.option.shown is not None:
        return option.option.shown
    if isinstance(option.default, bool):
        return "yes" if option.default else "no"
    return "" if option.default in (None, ()) else str(option.default)


_SPELT: Final = {"gpus": "GPUs", "moe": "MoE", "lora": "LoRA", "dora": "DoRA"}
_UPPER: Final = ("kv", "gpu", "cpu", "tp", "pp", "dp", "ep", "cp", "fsdp")
_WHOLE: Final = {"gpu": "Accelerator", "gpus": "Number of GPUs", "seq": "Context (tokens)", "runtime": "Engine"}
"""Names that the field's own word does not tell."""


def _label(name: str) -> str:
    """The name of a field in words: `KV dtype`, `Max num seqs`."""
    if name in _WHOLE:
        return _WHOLE[name]
    spelt = {**_SPELT, **titles()}
    first, *rest = (spelt.get(word) or (word.upper() if word in _UPPER else word) for word in name.split("_"))
    return " ".join([first if name.split("_", maxsplit=1)[0] in spelt else first[:1].upper() + first[1:], *rest])


def panels(of: Iterable[Control]) -> list[tuple[str, list[Control]]]:
    """Controls by heading, in the order of the help."""
    found: dict[str, list[Control]] = {}
    for control in of:
        found.setdefault(control.panel, []).append(control)
    return [(panel, found[panel]) for panel in in_order(set(found))]


@cache
def known_words() -> Mapping[str, tuple[str, ...]]:
    """Words to suggest for options that take others too, by the name of the option."""
    return {name: tuple(dict.fromkeys(words())) for name, words in _KNOWN.items()}


def _accelerators() -> Iterable[str]:
    from hfmem.hardware.table import accelerators, instances

    return (*(row.name for row in accelerators()), *(row.name for row in instances()))


def _dtypes() -> Iterable[str]:
    from hfmem.dtypes import RUN_DTYPES
    from hfmem.estimator.weights.quantisers import QUANTISERS

    return (*RUN_DTYPES, *(row.name for row in QUANTISERS))


def _cache_dtypes() -> Iterable[str]:
    from hfmem.dtypes import KV_DTYPES

    return KV_DTYPES


def _optimizers() -> Iterable[str]:
    from hfmem.estimator.recipe.optimizers import OPTIMIZERS

    return (row.name for row in OPTIMIZERS)


def _precisions() -> Iterable[str]:
    from hfmem.estimator.recipe.precisions import PRECISIONS

    return (row.name for row in PRECISIONS)


def _stacks() -> Iterable[str]:
    from hfmem.estimator.recipe.stacks import stack_names

    return stack_names()


_KNOWN: Final[dict[str, Callable[[], Iterable[str]]]] = {
    "gpu": _accelerators,
    "dtype": _dtypes,
    "kv_dtype": _cache_dtypes,
    "optimizer": _optimizers,
    "precision": _precisions,
    "stack": _stacks,
}


def is_size(option: Declared) -> bool:
    """Whether an option is a parallel size."""
    return option.option.panel == PARALLELISM and option.kind is int


def titles() -> Mapping[str, str]:
    """The engines' names in sentences."""
    return {row.name: row.title for row in engines()}
