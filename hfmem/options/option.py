"""The mechanism: an option is a field of a frozen dataclass, `name: Annotated[type, Option(...)] = default`.

Such a dataclass has no `__init__`, `__repr__` and `__eq__` of its own (`init=False, repr=False, eq=False`: making them
for a dozen classes would take a tenth of the time of `--help`); those that combine several have what they need.

Nothing else declares it: the command line and its help, the keywords of the Python functions, the plain keys of
training files and the checks are read from the field. The package's own declarations do not postpone annotations
(`from __future__ import annotations`): evaluating them at each start would be slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

from hfmem.errors import InvalidScenarioError
from hfmem.options.reading import plain
from hfmem.options.words import Mode
from hfmem.refusals.options import OptionRefusedError

__all__ = ["Declared", "Need", "Option", "declared", "flag", "split", "value_of"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Need:
    """What else must be asked for an option to have an effect.

    Attributes:
        sentence: the message where it is not, following the option's name: "needs --fsdp or --zero".
        met: whether what was asked (an object with every option as an attribute) is enough.
        harmless: whether the option is then only named as being without effect, and not refused.
    """

    sentence: str
    met: Callable[[Any], object]
    harmless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Option:
    """What there is to know of an option beside its name, type and default.

    Attributes:
        help: one sentence for `--help-all`, without the default.
        panel: the heading it stands under.
        common: whether the plain `--help` shows it.
        names: its names on the command line, where they are not the field's name with dashes.
        metavar: what stands for its value in help; "" takes one that suits the type.
        shown: the default in words, where the value does not say it; None where there is nothing to say.
        choices: the words it takes, or a function that lists them; empty for any.
        least, most: the smallest and the largest number.
        above, below: numbers that it must be more than, and less than.
        check: what is wrong with a value: an error, or a message as it follows the option's name; None where nothing
            is.
        parse: from what people write (a string) to the value; a ValueError has the message as it follows the option's
            name.
        alone: the value where the option stands without one on the command line; "" where it cannot.
        words: whether it takes words with commas between them (options with several values are repeated otherwise).
        modes: what it is for, running or training; empty for both.
        methods: the methods it is for; empty for all.
        train: the training methods it is for; empty for all.
        needs: what else must be asked for it to have an effect.
        keys: the keys of training files that set it plainly.
    """

    help: str
    panel: str
    common: bool = False
    names: tuple[str, ...] = ()
    metavar: str = ""
    shown: str | None = None
    choices: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    check: Callable[[Any], InvalidScenarioError | str | None] | None = None
    parse: Callable[[str], Any] | None = None
    alone: str = ""
    words: bool = False
    modes: tuple[Mode, ...] = ()
    methods: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    keys: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Option({self.help!r})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Declared:
    """An option with what its field says.

    Attributes:
        name: the field's name, and the keyword's in Python.
        kind: the type of one value: `int`, `float`, `str`, `bool` or another class.
        annotation: the type of the field, without the `Option`.
        several: whether the field is a tuple of values.
        default: the value where nothing is asked.
        option: the rest.
    """

    name: str
    kind: type
    annotation: Any
    several: bool
    default: Any
    option: Option

    @property
    def flags(self) -> tuple[str, ...]:
        """Its names on the command line, the first of which sentences use."""
        return self.option.names or (flag(self.name),)

    @property
    def called(self) -> str:
        """What sentences about its value call it: by its flag, unless that says the opposite."""
        return self.name if self.default is True else self.flags[0]

    @property
    def opposite(self) -> str:
        """The flag that switches it off, of a switch whose default is neither; "" of others."""
        return f"--no-{self.flags[0].removeprefix('--')}" if self.kind is bool and self.default is None else ""

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it takes; empty for any value of its type."""
        listed = self.option.choices
        return listed() if callable(listed) else listed or _literals(self.annotation)

    def asked(self, given: object) -> bool:
        """Whether it is set to something else than its default."""
        return bool(getattr(given, self.name, self.default) != self.default)


def flag(name: str) -> str:
    """The command line's name of a field, unless its option has others."""
    return "--" + name.replace("_", "-")


_TABLES: Final[dict[type, tuple[Declared, ...]]] = {}


def declared(options: type) -> tuple[Declared, ...]:
    """The options among the fields of a dataclass, in their order."""
    if options not in _TABLES:
        _TABLES[options] = tuple(_declared(options))
    return _TABLES[options]


def _declared(options: type) -> Iterator[Declared]:
    postponed = any(isinstance(field.type, str) for field in fields(options))
    hints = get_type_hints(options, include_extras=True) if postponed else {}
    for field in fields(options):
        kind = hints.get(field.name, field.type)
        annotation, *metadata = get_args(kind) if get_origin(kind) is Annotated else (kind,)
        option = next((item for item in metadata if isinstance(item, Option)), None)
        if option is not None:
            several = get_origin(annotation) is tuple
            yield Declared(
                name=field.name,
                kind=_kind(annotation),
                annotation=annotation,
                several=several,
                default=field.default,
                option=option,
            )


def _kind(annotation: Any) -> type:
    """The class of one value of a field: of `int | None` and `tuple[int, ...]`, `int`; of words, `str`."""
    if isinstance(annotation, UnionType) or get_origin(annotation) is not None:
        inner = [item for item in get_args(annotation) if item not in (NoneType, Ellipsis)]
        if get_origin(annotation) is Literal:
            return str
        return _kind(inner[0])
    return annotation if isinstance(annotation, type) else object


def _literals(annotation: Any) -> tuple[str, ...]:
    """The words of a `Literal`, with or without None beside it."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if isinstance(annotation, UnionType) or get_origin(annotation) is not None:
        return next((words for item in get_args(annotation) if (words := _literals(item))), ())
    return ()


def split(words: str) -> tuple[str, ...]:
    """The words of a list with commas."""
    return tuple(word.strip() for word in words.split(",") if word.strip())


def value_of(option: Declared, given: Any) -> Any:
    """The value that a person means, from the command line or from Python: a string may be a list with commas, or a
    word that stands for something else; several values may come as any iterable.

    Raises:
        OptionRefusedError: it cannot be understood.
    """
    if isinstance(given, str) and option.option.parse is not None:
        try:
            return option.option.parse(given)
        except ValueError as error:
            raise OptionRefusedError(option.flags[0], str(error)) from None
    if not option.several or given is None:
        return option.default if given is None and option.several else plain(given)
    if isinstance(given, str):
        return split(given) if option.option.words else (given,)
    several = isinstance(given, Iterable) and not isinstance(given, (Mapping, bytes, bytearray))
    return tuple(map(plain, given)) if several else given
