"""ONNX: the initializers of a graph, with their shapes, types and the bytes they take. Pure; no length is trusted.

An `.onnx` file is one protocol buffer. Its weights are messages of a graph, either with their bytes between those of
the names, or, for models of more than 2 GB, with the name, offset and length of a file beside it. Bytes of weights are
skipped: with external data the whole file is read, which is small.

Format: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3 (messages and field numbers),
https://protobuf.dev/programming-guides/encoding/ (bytes).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Final, NamedTuple, TypeVar

from hfmem.dtypes import stored_dtype
from hfmem.errors import InvalidHeaderError
from hfmem.fetcher.formats.protocol import FileContents, Format, Reading, Span
from hfmem.fetcher.values import TensorInfo
from hfmem.units import MIB

__all__ = ["FORMAT", "TYPES", "read"]

TYPES: Final[Mapping[int, str]] = {
    **dict(enumerate(("F32", "U8", "I8", "U16", "I16", "I32", "I64"), start=1)),
    **dict(enumerate(("BOOL", "F16", "F64", "U32", "U64", "C64", "complex128", "BF16"), start=9)),
    **dict(enumerate(("F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "uint4", "I4", "F4"), start=17)),
    **dict(enumerate(("F8_E8M0", "uint2", "int2"), start=24)),
}
"""Element types by their number (`TensorProto.DataType`); 8, strings, have no size."""

_STEP: Final = MIB
"""Bytes of a request that follows on the one before."""

_LEAP: Final = 64 * 1024
"""Bytes of a request behind bytes of weights, which are skipped: names and small weights up to the next large one."""

_LONGEST: Final = 64 * MIB  # bytes that are not weights: the graph of a large model with external data has 5
_LONGEST_TEXT: Final = 4096  # of a name
_MOST_DIMENSIONS: Final = 64
_MOST_ELEMENTS: Final = 2**56
_MOST_TENSORS: Final = 1_000_000
_DEEPEST: Final = 32  # graphs within nodes of graphs

_T = TypeVar("_T")
_Steps = Generator[Span, bytes, _T]


class _Field(NamedTuple):
    """A field of a message: its number, its value if a number (else -1), and where its bytes are if it has some."""

    number: int
    value: int
    start: int
    stop: int


# Numbers of fields, by message.
_GRAPH: Final = 7  # of ModelProto
_FUNCTIONS: Final = 25
_NODES, _INITIALIZERS, _SPARSE = 1, 5, 15  # of GraphProto
_FUNCTION_NODES: Final = 7  # of FunctionProto
_ATTRIBUTES: Final = 5  # of NodeProto
_ONE_TENSOR, _ONE_GRAPH, _TENSORS, _GRAPHS, _ONE_SPARSE, _SPARSES = 5, 6, 10, 11, 22, 23  # of AttributeProto
_VALUES, _INDICES = 1, 2  # of SparseTensorProto
_DIMENSIONS, _TYPE, _NAME, _EXTERNAL, _LOCATION = 1, 2, 8, 13, 14  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto

# Fields that hold messages which are looked into, by message.
_BELOW: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {_GRAPH: "graph", _FUNCTIONS: "function"},
    "function": {_FUNCTION_NODES: "node"},
    "graph": {_NODES: "node", _INITIALIZERS: "tensor", _SPARSE: "sparse"},
    "node": {_ATTRIBUTES: "attribute"},
    "attribute": {
        _ONE_TENSOR: "tensor",
        _TENSORS: "tensor",
        _ONE_GRAPH: "graph",
        _GRAPHS: "graph",
        _ONE_SPARSE: "sparse",
        _SPARSES: "sparse",
    },
    "sparse": {_VALUES: "tensor", _INDICES: "tensor"},
}


def read(file: str) -> Reading:
    """Read the initializers of a file, and the tensors of its constants."""
    source = _Source(file)
    found = _Found(file)
    length = yield from _message(source, found, _Message("model", 0, None))
    return FileContents(tensors=tuple(found.tensors), metadata=found.metadata, length=length)


@dataclass(slots=True)
class _Found:
    """What was read so far: tensors, and the files that hold their bytes."""

    file: str
    tensors: list[TensorInfo] = field(default_factory=list)
    outside: dict[str, int] = field(default_factory=dict)

    @property
    def metadata(self) -> dict[str, dict[str, int]]:
        return {"external_data": self.outside} if self.outside else {}


@dataclass(slots=True)
class _Source:
    """The bytes of a file around the place that is read."""

    file: str
    start: int = 0
    content: bytes = b""
    fetched: int = 0

    def bytes(self, start: int, stop: int) -> _Steps[bytes]:
        """The bytes of a range; fewer where the file ends."""
        if not self.start <= start <= stop <= self.start + len(self.content):
            leaps = start > self.start + len(self.content)
            yield from self._fill(start, max(stop, start + (_LEAP if leaps else _STEP)))
        return self.content[start - self.start : stop - self.start]

    def _fill(self, start: int, stop: int) -> _Steps[None]:
        self.fetched += stop - start
        if self.fetched > _LONGEST:
            raise InvalidHeaderError("", f"the graph in {self.file} is larger than that of any ONNX file")
        self.start, self.content = start, (yield Span(start=start, stop=stop))

    def number(self, position: int, stop: int | None) -> _Steps[tuple[int, int] | None]:
        """A variable-length number and the offset behind it; None at the end of the message."""
        if stop is not None and position >= stop:
            return None
        ahead = yield from self.bytes(position, position + 10)
        if not ahead and stop is None:
            return None
        value = 0
        for index, byte in enumerate(ahead):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value & (2**64 - 1), position + index + 1
        raise InvalidHeaderError("", f"{self.file} is no ONNX: a number in it does not end")

    def fields(self, start: int, stop: int | None) -> _Steps[_Field | None]:
        """The field of a message at an offset; None at its end. `stop` is None for a message up to the file's end."""
        head = yield from self.number(start, stop)
        if head is None:
            return None
        number, wire = head[0] >> 3, head[0] & 7
        if not number:
            raise InvalidHeaderError("", f"{self.file} is no ONNX: it has a field without a number")
        if wire == 0:
            value = yield from self.number(head[1], None)
            return _Field(number, *self._within(value, stop))
        if wire in (1, 5):
            return _Field(number, -1, head[1], self._end(head[1], 8 if wire == 1 else 4, stop))
        if wire == 2:
            length = yield from self.number(head[1], None)
            size, behind = length or (0, head[1])
            return _Field(number, -1, behind, self._end(behind, size, stop))
        raise InvalidHeaderError("", f"{self.file} is no ONNX: a field has the unknown wire type {wire}")

    def _within(self, value: tuple[int, int] | None, stop: int | None) -> tuple[int, int, int]:
        if value is None or (stop is not None and value[1] > stop):
            raise InvalidHeaderError("", f"{self.file} is no ONNX: a field ends beyond its message")
        return value[0], value[1], value[1]

    def _end(self, start: int, size: int, stop: int | None) -> int:
        if stop is not None and start + size > stop:
            raise InvalidHeaderError("", f"{self.file} is no ONNX: a field ends beyond its message")
        return start + size


class _Message(NamedTuple):
    """A message: its kind, where its bytes are (`stop` is None for the whole file), and how deep it is nested."""

    kind: str
    start: int
    stop: int | None
    depth: int = 0


def _message(source: _Source, found: _Found, whole: _Message) -> _Steps[int]:
    """Look through a message, and into those below it that can hold tensors; the offset behind it."""
    if whole.depth > _DEEPEST:
        raise InvalidHeaderError("", f"{source.file} has graphs nested more than {_DEEPEST} deep")
    position = whole.start
    while (one := (yield from source.fields(position, whole.stop))) is not None:
        below = _BELOW[whole.kind].get(one.number)
        if below == "tensor":
            yield from _tensor(source, found, one)
        elif below is not None:
            yield from _message(source, found, _Message(below, one.start, one.stop, whole.depth + 1))
        position = one.stop
    return position


def _tensor(source: _Source, found: _Found, whole: _Field) -> _Steps[None]:
    """Read one tensor's name, shape and type; its bytes are skipped."""
    shape: list[int] = []
    name, type_, outside = "", 0, False
    entries: dict[str, str] = {}
    position = whole.start
    while (one := (yield from source.fields(position, whole.stop))) is not None:
        if one.number == _DIMENSIONS:
            shape += yield from _numbers(source, one)
        elif one.number == _TYPE:
            type_ = one.value
        elif one.number == _NAME:
            name = yield from _text(source, one)
        elif one.number == _LOCATION:
            outside = one.value == 1
        elif one.number == _EXTERNAL:
            entries.update((yield from _entry(source, one)))
        position = one.stop
    _add(found, name, shape, type_, entries if outside else None)


def _numbers(source: _Source, one: _Field) -> _Steps[list[int]]:
    """The numbers of a repeated field, packed into one or not."""
    if one.value >= 0:
        return [one.value]
    found, position = [], one.start
    while (value := (yield from source.number(position, one.stop))) is not None:
        found.append(value[0])
        position = value[1]
        if len(found) > _MOST_DIMENSIONS:
            break
    return found


def _text(source: _Source, one: _Field) -> _Steps[str]:
    content = yield from source.bytes(one.start, min(one.stop, one.start + _LONGEST_TEXT))
    return content.decode("utf-8", "replace")


def _entry(source: _Source, whole: _Field) -> _Steps[dict[str, str]]:
    """A key with its value."""
    key, value, position = "", "", whole.start
    while (one := (yield from source.fields(position, whole.stop))) is not None:
        if one.number in (_KEY, _VALUE):
            text = yield from _text(source, one)
            key, value = (text, value) if one.number == _KEY else (key, text)
        position = one.stop
    return {key: value}


def _add(found: _Found, name: str, shape: list[int], type_: int, outside: Mapping[str, str] | None) -> None:
    """Add a tensor, if it has a size."""
    if len(found.tensors) >= _MOST_TENSORS:
        raise InvalidHeaderError("", f"{found.file} has more than {_MOST_TENSORS:,} tensors")
    word = TYPES.get(type_)
    dtype = stored_dtype(word) if word else None
    if word is None and type_ != 8:  # strings are labels, and nothing that is computed with
        raise InvalidHeaderError("", f"{found.file} has a tensor of the unknown type {type_}")
    elements = prod(shape)
    if len(shape) > _MOST_DIMENSIONS or elements > _MOST_ELEMENTS:
        raise InvalidHeaderError("", f"{found.file} has a tensor with {elements:,} elements")
    if word is None or dtype is None:
        return
    nbytes = dtype.nbytes(elements)
    stated = (outside or {}).get("length", "")
    if stated.isdecimal() and int(stated) != nbytes:
        raise InvalidHeaderError("", f"{found.file} has {stated} bytes for '{name}', whose shape takes {nbytes:,}")
    found.tensors.append(TensorInfo(name=name, dtype=word, shape=tuple(shape), nbytes=nbytes, file=found.file))
    if outside is not None:
        place = outside.get("location", "")
        found.outside[place] = found.outside.get(place, 0) + nbytes


FORMAT: Final = Format(
    name="ONNX",
    suffixes=(".onnx",),
    read=read,
    head=_STEP,
    most_bytes=_LONGEST + MIB,
    most_requests=24,
    optional=True,
)
