"""The declaration of options: a field of a frozen dataclass, `name: Annotated[type, Option(...)] = default`.

Such a dataclass is declared with `init=False, repr=False, eq=False`, since generating these methods for a dozen classes
would take a tenth of the time of `--help`; classes that combine several generate what they need.

The command line and its help, the keywords of the Python functions, the simple keys of training files and the
validation are all derived from the field. The package's own declarations do not postpone annotations (`from __future__
import annotations`), as evaluating them at each start would be slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

from hfmem.errors import InvalidScenarioError
from hfmem.options.reading import plain
from hfmem.options.words import Mode
from hfmem.refusals.options import OptionRefusedError

__all__ = ["Declared", "Need", "Option", "declared", "flag", "split", "value_of"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Need:
    """A condition on other options for an option to have an effect.

    Attributes:
        sentence: the message if it is not met, following the option's name: "needs --fsdp or --zero".
        met: the condition, as a function of an object with all options as attributes.
        harmless: whether an option without effect is only reported instead of rejected.
    """

    sentence: str
    met: Callable[[Any], object]
    harmless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Option:
    """The properties of an option other than its name, type and default.

    Attributes:
        help: one sentence for `--help-all`, without the default.
        panel: its heading in help.
        common: whether the plain `--help` shows it.
        names: its names on the command line, if they differ from the field's name with dashes.
        metavar: placeholder for its value in help; "" for one derived from the type.
        shown: the default in words, if it is not the field's default; None if it is not shown.
        choices: the allowed words, or a function that returns them; empty for any.
        least, most: the smallest and largest allowed number.
        also: a number outside of the bounds, which stands for a word.
        above, below: exclusive bounds.
        check: returns what is wrong with a value: an error, or a message worded to follow the option's name; None if
            it is valid.
        parse: converts a string from the user to the value; a ValueError has a message worded to follow the option's
            name.
        alone: the value if the option is given without one on the command line; "" if it needs one.
        mistaken: the option that is often meant where another engine runs; "" for none.
        words: whether several values are separated by commas (otherwise the option is repeated).
        modes: inference, training, or both if empty.
        methods: the values of `--method` that it applies to; empty for all.
        train: the training methods that it applies to; empty for all.
        needs: conditions on other options.
        keys: keys of training files that set this option directly.
        own: whether it names files or runs software of the machine that hfmem is on, or its value may take any time
            there: a page that others open does not have it.
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
    also: float | None = None
    above: float | None = None
    below: float | None = None
    check: Callable[[Any], InvalidScenarioError | str | None] | None = None
    parse: Callable[[str], Any] | None = None
    alone: str = ""
    mistaken: str = ""
    words: bool = False
    modes: tuple[Mode, ...] = ()
    methods: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    keys: tuple[str, ...] = ()
    own: bool = False

    def __repr__(self) -> str:
        return f"Option({self.help!r})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Declared:
    """An option with the properties of its field.

    Attributes:
        name: the field's name, which is also the keyword in Python.
        kind: the type of one value: `int`, `float`, `str`, `bool` or another class.
        annotation: the type of the field, without the `Option`.
        several: whether the field is a tuple of values.
        default: the default value.
        option: the other properties.
    """

    name: str
    kind: type
    annotation: Any
    several: bool
    default: Any
    option: Option

    @property
    def listed(self) -> bool:
        """Whether its value is a tuple, or None."""
        return self.several or any(get_origin(item) is tuple for item in get_args(self.annotation))

    @property
    def flags(self) -> tuple[str, ...]:
        """Its names on the command line; sentences use the first."""
        return self.option.names or (flag(self.name),)

    @property
    def called(self) -> str:
        """Its name in sentences about its value: the flag, unless the flag means the opposite of the field."""
        return self.name if self.default is True else self.flags[0]

    @property
    def opposite(self) -> str:
        """The flag that switches it off, for a switch whose default is neither on nor off; "" for others."""
        return f"--no-{self.flags[0].removeprefix('--')}" if self.kind is bool and self.default is None else ""

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words; empty for any value of its type."""
        listed = self.option.choices
        return listed() if callable(listed) else listed or _literals(self.annotation)

    def asked(self, given: object) -> bool:
        """Whether it is set to a value other than its default."""
        return bool(getattr(given, self.name, self.default) != self.default)


def flag(name: str) -> str:
    """The default command-line name of a field."""
    return "--" + name.replace("_", "-")


_TABLES: Final[dict[type, tuple[Declared, ...]]] = {}


def declared(options: type) -> tuple[Declared, ...]:
    """The options among the fields of a dataclass, in order."""
    if options not in _TABLES:
        _TABLES[options] = tuple(_declared(options))
    return _TABLES[options]


_KNOWN: Final[dict[Field[Any], Declared | None]] = {}
"""The options by their fields, which a derived class shares with its bases; None for fields that are no options."""


def _declared(options: type) -> Iterator[Declared]:
    new = [field for field in fields(options) if field not in _KNOWN]
    postponed = any(isinstance(field.type, str) for field in new)
    hints = get_type_hints(options, include_extras=True) if postponed else {}
    for field in new:
        _KNOWN[field] = _option(field, hints.get(field.name, field.type))
    return filter(None, (_KNOWN[field] for field in fields(options)))


def _option(field: Field[Any], kind: Any) -> Declared | None:
    annotation, *metadata = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    option = next((item for item in metadata if isinstance(item, Option)), None)
    if option is None:
        return None
    return Declared(
        name=field.name,
        kind=_kind(annotation),
        annotation=annotation,
        several=get_origin(annotation) is tuple,
        default=field.default,
        option=option,
    )


def _kind(annotation: Any) -> type:
    """The class of one value of a field: `int` for `int | None` and `tuple[int, ...]`, `str` for literals."""
    if isinstance(annotation, UnionType) or get_origin(annotation) is not None:
        inner = [item for item in get_args(annotation) if item not in (NoneType, Ellipsis)]
        if get_origin(annotation) is Literal:
            return str
        return _kind(inner[0])
    return annotation if isinstance(annotation, type) else object


def _literals(annotation: Any) -> tuple[str, ...]:
    """The words of a `Literal`, also in a union with None."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if isinstance(annotation, UnionType) or get_origin(annotation) is not None:
        return next((words for item in get_args(annotation) if (words := _literals(item))), ())
    return ()


def split(words: str) -> tuple[str, ...]:
    """The words of a comma-separated list."""
    return tuple(word.strip() for word in words.split(",") if word.strip())


def value_of(option: Declared, given: Any) -> Any:
    """The value of an option from the command line or from Python. A string may be comma-separated, or need parsing;
    several values may be any iterable.

    Raises:
        OptionRefusedError: the value cannot be parsed.
    """
    if isinstance(given, str) and option.option.parse is not None and not option.several:
        return _parsed(option, given)
    if not option.several or given is None:
        return option.default if given is None and option.several else plain(given)
    if isinstance(given, str):
        given = split(given) if option.option.words else (given,)
    if not isinstance(given, Iterable) or isinstance(given, (Mapping, bytes, bytearray)):
        return given
    if option.option.parse is not None:
        return tuple(_parsed(option, one) if isinstance(one, str) else plain(one) for one in given)
    return tuple(map(plain, given))


def _parsed(option: Declared, given: str) -> Any:
    """The value of a string.

    Raises:
        OptionRefusedError: the value cannot be parsed.
    """
    try:
        return option.option.parse(given) if option.option.parse is not None else given
    except ValueError as error:
        raise OptionRefusedError(option.flags[0], str(error)) from None
