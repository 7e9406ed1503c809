"""A pickle as data: what its opcodes would build, with each call left as a record of its name and arguments.

Nothing is imported or called, so a malicious file is a value like any other. What it builds shares parts as the file
says (a tuple of two times the same tuple, and so on), so whoever walks over it visits each part once.

Opcodes: https://docs.python.org/3/library/pickletools.html
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Call", "Global", "Items", "PickleError", "Reference", "load"]


class PickleError(ValueError):
    """Bytes that are no pickle, or that build nothing."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that unpickling would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Reference:
    """An object outside the pickle, such as a storage. `key` is what the pickle says of it."""

    key: Any


@dataclass(slots=True, eq=False)
class Items:
    """A dictionary or a list.

    Attributes:
        pairs: keys with values; those of a list and of a set have their positions as keys.
        mapping: whether it is a dictionary.
    """

    mapping: bool
    pairs: list[tuple[Any, Any]] = field(default_factory=list)

    def append(self, value: Any) -> None:
        """Add the next value of a list."""
        self.pairs.append((len(self.pairs), value))


@dataclass(slots=True, eq=False)
class Call:
    """An object that unpickling would make by a call.

    Attributes:
        function: what would be called: mostly a `Global`.
        arguments: its arguments.
        state: what would be set on it afterwards; None for nothing.
        items: what would be added to it afterwards, as to an `OrderedDict`.
    """

    function: Any
    arguments: Any
    state: Any = None
    items: Items = field(default_factory=lambda: Items(mapping=True))


_MARK: Final = object()
_Stack = list[Any]


def load(content: bytes, start: int = 0) -> tuple[Any, int]:
    """What a pickle builds, and the offset of the first byte after it.

    Args:
        content: bytes that have the whole pickle.
        start: the offset of its first byte.

    Raises:
        PickleError: no pickle, or one that is not whole.
    """
    import pickletools  # not for other formats: it takes as long as the rest of a start

    machine = _Machine()
    stream = io.BytesIO(content)
    stream.seek(start)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.pop(), stream.tell()
            machine.step(opcode.name, argument)
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, EOFError) as error:
        raise PickleError(str(error)) from error
    raise PickleError("it has no end")


@dataclass(slots=True)
class _Machine:
    """The stack and the memo of a pickle."""

    stack: _Stack = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif (action := _ACTIONS.get(name)) is not None:
            action(self, argument)
        elif name not in _NOTHING:
            raise PickleError(f"it has the opcode {name}, which no file of PyTorch has")

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("it takes more from its stack than it has")
        return self.stack.pop()

    def take(self, count: int) -> _Stack:
        return [self.pop() for _ in range(count)][::-1]

    def marked(self) -> _Stack:
        """What was pushed since the last mark, which is removed too."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                found = self.stack[place + 1 :]
                del self.stack[place:]
                return found
        raise PickleError("it lacks a mark")

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("it takes more from its stack than it has")
        return self.stack[-1]


def _get(machine: _Machine, argument: Any) -> None:
    if argument not in machine.memo:
        raise PickleError("it refers to something that it has not made")
    machine.stack.append(machine.memo[argument])


def _put(machine: _Machine, argument: Any) -> None:
    machine.memo[argument] = machine.top()


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _global(machine: _Machine, argument: Any) -> None:
    module, _, name = argument.partition(" ")
    machine.stack.append(Global(module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    module, name = machine.take(2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleError("it imports something that is no name")
    machine.stack.append(Global(module, name))


def _call(machine: _Machine, _: Any) -> None:
    function, arguments = machine.take(2)
    machine.stack.append(Call(function, arguments))


def _call_with_keywords(machine: _Machine, _: Any) -> None:
    made, arguments, _ = machine.take(3)
    machine.stack.append(Call(made, arguments))


def _instance(machine: _Machine, argument: Any) -> None:
    arguments = tuple(machine.marked())
    module, _, name = argument.partition(" ")
    machine.stack.append(Call(Global(module, name), arguments))


def _object(machine: _Machine, _: Any) -> None:
    made, *arguments = machine.marked()
    machine.stack.append(Call(made, tuple(arguments)))


def _build(machine: _Machine, _: Any) -> None:
    state = machine.pop()
    made = machine.top()
    if isinstance(made, Call):
        made.state = state


def _reference(machine: _Machine, _: Any) -> None:
    machine.stack.append(Reference(machine.pop()))


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(tuple(machine.take(count)))


def _list(machine: _Machine, _: Any) -> None:
    machine.stack.append(_listed(machine.marked()))


def _listed(values: _Stack) -> Items:
    return Items(False, list(enumerate(values)))


def _dict(machine: _Machine, _: Any) -> None:
    machine.stack.append(Items(True, list(_paired(machine.marked()))))


def _paired(values: _Stack) -> Iterator[tuple[Any, Any]]:
    return zip(values[::2], values[1::2], strict=True)


def _items_of(made: Any) -> Items:
    items = made.items if isinstance(made, Call) else made
    if not isinstance(items, Items):
        raise PickleError("it adds items to something that has none")
    return items


def _append(machine: _Machine, _: Any) -> None:
    value = machine.pop()
    _items_of(machine.top()).append(value)


def _appends(machine: _Machine, _: Any) -> None:
    values = machine.marked()
    items = _items_of(machine.top())
    for value in values:
        items.append(value)


def _set_item(machine: _Machine, _: Any) -> None:
    key, value = machine.take(2)
    _items_of(machine.top()).pairs.append((key, value))


def _set_items(machine: _Machine, _: Any) -> None:
    pairs = list(_paired(machine.marked()))
    _items_of(machine.top()).pairs.extend(pairs)


def _pop(machine: _Machine, _: Any) -> None:
    if not machine.stack:
        raise PickleError("it takes more from its stack than it has")
    machine.stack.pop()


def _pop_marked(machine: _Machine, _: Any) -> None:
    machine.marked()


_VALUES: Final = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
_CONSTANTS: Final[dict[str, Any]] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "MARK": _MARK}
_NOTHING: Final = frozenset({"PROTO", "FRAME"})
_ACTIONS: Final[dict[str, Callable[[_Machine, Any], None]]] = {
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": _memoize,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _call,
    "NEWOBJ": _call,
    "NEWOBJ_EX": _call_with_keywords,
    "INST": _instance,
    "OBJ": _object,
    "BUILD": _build,
    "BINPERSID": _reference,
    "PERSID": lambda machine, argument: machine.stack.append(Reference(argument)),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.marked())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "LIST": _list,
    "EMPTY_LIST": lambda machine, _: machine.stack.append(Items(mapping=False)),
    "EMPTY_SET": lambda machine, _: machine.stack.append(Items(mapping=False)),
    "EMPTY_DICT": lambda machine, _: machine.stack.append(Items(mapping=True)),
    "DICT": _dict,
    "FROZENSET": _list,
    "APPEND": _append,
    "APPENDS": _appends,
    "ADDITEMS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "POP": _pop,
    "POP_MARK": _pop_marked,
    "DUP": lambda machine, _: machine.stack.append(machine.top()),
}
