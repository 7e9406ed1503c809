"""GGUF, llama.cpp's format: metadata, then each tensor's name, type, shape and offset. Pure; no length is trusted.

The tensors follow the tokenizer's vocabulary, which is most of the header: it is skipped without being decoded.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little and big endian).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import cache
from math import isfinite, prod
from operator import gt
from struct import Struct
from struct import error as ShortError  # noqa: N812 - what `unpack_from` raises where bytes end
from typing import Any, Final, NoReturn, TypeVar

from hfmem.dtypes import Dtype, stored_dtype
from hfmem.errors import InvalidHeaderError
from hfmem.fetcher.formats.protocol import FileContents, Format, Reading, Span
from hfmem.fetcher.values import TensorInfo
from hfmem.units import MIB

__all__ = ["FORMAT", "TYPES", "is_left_out", "read"]

MAGIC: Final = b"GGUF"

_STEPS: Final = (MIB, 17 * MIB // 2, 17 * MIB, 34 * MIB, 64 * MIB)
"""Offsets at which successive fetches of the header end. The first fetch covers headers with a small vocabulary; the
second those of 150,000 to 260,000 tokens (Qwen3-8B 5,956,416 bytes, gemma-3-4b 6,405,024, Llama-3.1-8B 7,840,928)."""

_LONGEST: Final = _STEPS[-1]

_MOST_ELEMENTS: Final = 2**56  # of one tensor: a hundred thousand times the largest model
_MOST_DIMENSIONS: Final = 4  # GGML_MAX_DIMS
_LONGEST_NAME: Final = 65_535
_LONGEST_TEXT: Final = 1024  # of strings that are kept: names and licences are shorter, chat templates longer
_LONGEST_ARRAY: Final = 1024  # of numeric arrays that are kept: one entry per layer, of which llama.cpp allows 512
_MOST_TEXTS: Final = 64  # of string arrays that are kept: tags and languages, not the vocabulary

TYPES: Final[Mapping[int, str]] = {
    **dict(enumerate(("F32", "F16", "Q4_0", "Q4_1"))),
    **dict(enumerate(("Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"), start=6)),
    **dict(enumerate(("IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS"), start=16)),
    **dict(enumerate(("I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16"), start=24)),
    **dict(enumerate(("TQ1_0", "TQ2_0"), start=34)),
    **dict(enumerate(("MXFP4", "NVFP4", "Q1_0", "Q2_0"), start=39)),
}
"""Tensor types by their number in files (`enum ggml_type` in ggml.h)."""

_REMOVED: Final[Mapping[int, str]] = {
    **dict(enumerate(("Q4_2", "Q4_3"), start=4)),
    **dict(enumerate(("Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8"), start=31)),
    **dict(enumerate(("IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8"), start=36)),
}
"""Types that llama.cpp has removed, by number."""

_STRING: Final = 8
_ARRAY: Final = 9
# `enum gguf_type`: the `struct` format character of each fixed-size value type, by its number.
_LETTERS: Final[Mapping[int, str]] = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_WORDS: Final = ("u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64")

_T = TypeVar("_T")
_Parse = Callable[[bytes, int], tuple[_T, int]]
_Steps = Generator[Span, bytes, _T]


def is_left_out(value: object) -> bool:
    """Whether a metadata value was too long to keep, so that only its type and length are recorded."""
    return isinstance(value, Mapping)


def read(file: str) -> Reading:
    """Read the header of a file, in fetches of growing size."""
    source = _Source(file)
    order, version = yield from source.next(_start(file))
    header = _Header(file, order)
    tensors, values = yield from source.next(header.counts)
    header.check(tensors, 24, "tensors")
    header.check(values, 13, "key-values")
    metadata: dict[str, Any] = {"GGUF.version": version}
    for _ in range(values):
        key, value = yield from source.next(header.key_value)
        if key in metadata:
            raise InvalidHeaderError("", f"the header of {file} has the key '{key}' twice")
        metadata[key] = value
    found: list[TensorInfo] = []
    places: list[int] = []
    yield from source.next(header.tensors(tensors, found, places))
    _check_tensors(found, places, file)
    _check_alignment(metadata, file)
    return FileContents(tensors=tuple(found), metadata=metadata)


FORMAT: Final = Format(
    name="GGUF",
    suffixes=(".gguf",),
    read=read,
    head=_STEPS[0],
    ahead=_STEPS[1],
    most_bytes=_LONGEST,
    most_requests=len(_STEPS),
)


class _ShortAtError(ShortError):
    """The bytes end inside the value that begins at `at`; everything before it has been parsed."""

    def __init__(self, at: int) -> None:
        self.at = at
        super().__init__(at)


class _Source:
    """The bytes fetched from a file so far, and the position of the parser in them."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._data = b""
        self._at = 0
        self._fetched = 0  # bytes received, including those already parsed and dropped
        self._ended = False

    def next(self, parse: _Parse[_T]) -> _Steps[_T]:
        """The next value. Where the bytes end inside it, more are fetched and it is parsed again from its start."""
        while True:
            try:
                value, self._at = parse(self._data, self._at)
            except ShortError as short:
                if isinstance(short, _ShortAtError):
                    self._at = short.at
                yield from self._more()
            else:
                return value

    def _more(self) -> _Steps[None]:
        """Fetch the next piece, and drop the bytes that are already parsed."""
        stop = next((step for step in _STEPS if step > self._fetched), None)
        if self._ended:
            raise InvalidHeaderError("", f"{self._file} ends inside its header, after {self._fetched:,} bytes")
        if stop is None:
            raise InvalidHeaderError("", f"the header of {self._file} is longer than {_LONGEST:,} bytes")
        piece = yield Span(start=self._fetched, stop=stop)
        self._ended = len(piece) < stop - self._fetched
        self._fetched += len(piece)
        self._data = self._data[self._at :] + piece
        self._at = 0


def _start(file: str) -> _Parse[tuple[str, int]]:
    """A parser for the byte order (as a `struct` prefix) and the version."""

    def parse(data: bytes, at: int) -> tuple[tuple[str, int], int]:
        if data[:4] != MAGIC[: len(data)]:
            raise InvalidHeaderError("", f"{file} is no GGUF: it begins with {bytes(data[:4])!r}")
        (version,) = _struct("<I").unpack_from(data, at + 4)
        order = "<"
        if version & 0xFFFF == 0:  # a small version number with swapped bytes: gguf-py detects big endian this way too
            order = ">"
            (version,) = _struct(">I").unpack_from(data, at + 4)
        if version not in (2, 3):
            raise InvalidHeaderError("", f"{file} is of version {version} of GGUF; 2 and 3 are read")
        return (order, version), at + 8

    return parse


class _Header:
    """Parses one header. Each method returns the value at a position, and the position after it."""

    def __init__(self, file: str, order: str) -> None:
        self._file = file
        self._order = order
        self._u32 = _struct(f"{order}I").unpack_from
        self._u64 = _struct(f"{order}Q").unpack_from
        self._placed = [_struct(f"{order}{count}QIQ").unpack_from for count in range(_MOST_DIMENSIONS + 1)]
        self._sizes: dict[tuple[int, ...], tuple[str, tuple[int, ...], int]] = {}

    def counts(self, data: bytes, at: int) -> tuple[tuple[int, int], int]:
        """The number of tensors and of metadata entries."""
        return (self._u64(data, at)[0], self._u64(data, at + 8)[0]), at + 16

    def check(self, count: int, least: int, what: str) -> None:
        """Refuse a count of items, of at least `least` bytes each, that does not fit in the longest header."""
        if count * least > _LONGEST:
            self._refuse(f"says that it has {count:,} {what}, more than a header can hold")

    def key_value(self, data: bytes, at: int) -> tuple[tuple[str, Any], int]:
        """One metadata entry."""
        key, at = self._name(data, at)
        (kind,) = self._u32(data, at)
        value, at = self._array(key, data, at + 4) if kind == _ARRAY else self._scalar(key, kind, data, at + 4)
        return (key, value), at

    def tensors(self, count: int, found: list[TensorInfo], places: list[int]) -> _Parse[None]:
        """A parser that appends `count` tensors to `found`, and the offsets of their data to `places`."""
        length_at, dimensions_at, placed, sizes_of = self._u64, self._u32, self._placed, self._sizes

        def parse(data: bytes, at: int) -> tuple[None, int]:
            try:
                while len(found) < count:
                    begin = at + 8
                    length = length_at(data, at)[0]
                    end = begin + length
                    if length > _LONGEST_NAME:
                        self._refuse(f"has a name of {length:,} bytes")
                    (dimensions,) = dimensions_at(data, end)  # raises where `end` lies beyond the fetched bytes
                    if dimensions > _MOST_DIMENSIONS:
                        self._refuse(f"has a tensor of {dimensions} dimensions, more than {_MOST_DIMENSIONS}")
                    fields = placed[dimensions](data, end + 4)
                    name = str(data[begin:end], "utf-8", "replace")
                    key = fields[:-1]
                    dtype, shape, nbytes = sizes_of.get(key) or self._size(name, key)
                    found.append(_info(name, dtype, shape, nbytes, self._file))
                    places.append(fields[-1])
                    at = end + 16 + 8 * dimensions
            except ShortError as short:
                raise _ShortAtError(at) from short
            return None, at

        return parse

    def _size(self, name: str, key: tuple[int, ...]) -> tuple[str, tuple[int, ...], int]:
        """Dtype, shape and bytes of a tensor. GGUF stores dimensions innermost first; the shape is outermost first."""
        *sizes, kind = key
        dtype = self._dtype(name, kind)
        elements = prod(sizes)
        if elements > _MOST_ELEMENTS or max(sizes, default=0) > _MOST_ELEMENTS:
            self._refuse(f"says that '{name}' has {elements:,} elements, more than any tensor")
        if (sizes[0] if sizes else 1) % dtype.block:
            self._refuse(
                f"says that rows of '{name}' have {sizes[0] if sizes else 1} elements; {dtype.name} has blocks "
                f"of {dtype.block}"
            )
        found = TYPES[kind], tuple(reversed(sizes)), dtype.nbytes(elements)
        self._sizes[key] = found
        return found

    def _dtype(self, name: str, kind: int) -> Dtype:
        if kind in _REMOVED:
            self._refuse(f"has '{name}' in {_REMOVED[kind]}, a format that llama.cpp has removed")
        found = stored_dtype(TYPES.get(kind, ""))
        if found is None:
            self._refuse(f"has '{name}' in a format of number {kind}, which is not known")
        return found

    def _name(self, data: bytes, at: int) -> tuple[str, int]:
        (length,) = self._u64(data, at)
        if length > _LONGEST_NAME:
            self._refuse(f"has a name of {length:,} bytes")
        end = at + 8 + length
        if end > len(data):
            raise ShortError
        return str(data[at + 8 : end], "utf-8", "replace"), end

    def _scalar(self, key: str, kind: int, data: bytes, at: int) -> tuple[Any, int]:
        if kind == _STRING:
            return self._text(data, at)
        letter = self._letter(key, kind)
        one = _struct(self._order + letter)
        return _kept(one.unpack_from(data, at)[0]), at + one.size

    def _text(self, data: bytes, at: int) -> tuple[Any, int]:
        (length,) = self._u64(data, at)
        self.check(length, 1, "bytes in a text")
        end = at + 8 + length
        if end > len(data):
            raise ShortError
        if length > _LONGEST_TEXT:
            return {"type": "string", "length": length}, end
        return str(data[at + 8 : end], "utf-8", "replace"), end

    def _array(self, key: str, data: bytes, at: int) -> tuple[Any, int]:
        (kind,) = self._u32(data, at)
        (count,) = self._u64(data, at + 4)
        at += 12
        if kind == _STRING:
            self.check(count, 8, f"texts in '{key}'")
            return self._texts(key, count, data, at)
        letter = self._letter(key, kind)
        size = _struct(self._order + letter).size
        self.check(count, size, f"elements in '{key}'")
        end = at + count * size
        if end > len(data):
            raise ShortError
        if count > _LONGEST_ARRAY:
            return {"type": f"{_WORDS[kind]}[]", "length": count}, end
        return [_kept(value) for value in _struct(f"{self._order}{count}{letter}").unpack_from(data, at)], end

    def _texts(self, key: str, count: int, data: bytes, at: int) -> tuple[Any, int]:
        if count <= _MOST_TEXTS:
            texts = []
            for _ in range(count):
                text, at = self._text(data, at)
                texts.append(text)
            return texts, at
        length = self._u64
        try:
            for _ in range(count):
                at += 8 + length(data, at)[0]  # the next `unpack_from` raises where `at` is beyond the end
        except OverflowError:
            self._refuse(f"has texts in '{key}' that are longer than any file")
        if at > len(data):
            raise ShortError
        return {"type": "string[]", "length": count}, at

    def _letter(self, key: str, kind: int) -> str:
        if kind == _ARRAY:
            self._refuse(f"has an array of arrays at '{key}', which no reader knows")
        letter = _LETTERS.get(kind)
        if letter is None:
            self._refuse(f"has a value of type {kind} at '{key}', which is not known")
        return letter

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidHeaderError("", f"the header of {self._file} {what}")


_NAME, _DTYPE, _SHAPE, _NBYTES, _FILE = (
    getattr(TensorInfo, field).__set__ for field in ("name", "dtype", "shape", "nbytes", "file")
)


def _info(name: str, dtype: str, shape: tuple[int, ...], nbytes: int, file: str) -> TensorInfo:
    """A tensor, built in half the time of the frozen dataclass's constructor: headers have up to 300,000 tensors."""
    info = object.__new__(TensorInfo)
    _NAME(info, name)
    _DTYPE(info, dtype)
    _SHAPE(info, shape)
    _NBYTES(info, nbytes)
    _FILE(info, file)
    return info


@cache
def _struct(layout: str) -> Struct:
    return Struct(layout)


def _kept(value: Any) -> Any:
    """The number, or None for infinities and NaN, which JSON cannot represent."""
    return None if isinstance(value, float) and not isfinite(value) else value


def _check_tensors(found: list[TensorInfo], places: list[int], file: str) -> None:
    """Refuse duplicate names, overlapping tensors, and offsets beyond any real file."""
    if len({info.name for info in found}) < len(found):
        counts = Counter(info.name for info in found)
        raise InvalidHeaderError("", f"the header of {file} has '{counts.most_common(1)[0][0]}' twice")
    # writers lay tensors out in the order of the header, so sorting is rarely needed
    order: Iterable[int] = range(len(places))
    if any(map(gt, places, places[1:])):
        order = sorted(order, key=places.__getitem__)
    end, before = 0, ""
    for index in order:
        nbytes, offset = found[index].nbytes, places[index]
        if offset < end and nbytes:  # an empty tensor may share the offset of the next one
            raise InvalidHeaderError("", f"in {file}, '{found[index].name}' begins inside the data of '{before}'")
        if nbytes:
            end, before = offset + nbytes, found[index].name
    if end > 8 * _MOST_ELEMENTS:
        raise InvalidHeaderError("", f"in {file}, '{before}' ends at byte {end:,} of the data, beyond any file")


def _check_alignment(metadata: Mapping[str, Any], file: str) -> None:
    """Refuse an alignment that is not a power of two (`gguf_init_from_file`)."""
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
        raise InvalidHeaderError("", f"{file} asks for an alignment of {alignment!r}, which is no power of two")
