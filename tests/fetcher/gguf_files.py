"""GGUF headers as bytes, right ones and wrong ones."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from hfmem.dtypes import stored_dtype
from hfmem.fetcher.formats import gguf
from hfmem.fetcher.formats.protocol import FileContents
from hfmem.fetcher.formats.reading import Piece, read_contents

__all__ = ["Array", "Fetched", "Header", "array", "header", "read", "string", "value"]

NUMBERS = {name: number for number, name in gguf.TYPES.items()}
KINDS = {"u8": 0, "i8": 1, "u16": 2, "i16": 3, "u32": 4, "i32": 5, "f32": 6, "bool": 7, "u64": 10, "i64": 11, "f64": 12}
LETTERS = dict(zip(KINDS, "BbHhIif?Qqd", strict=True))


@dataclass
class Fetched:
    """What was read of a file."""

    requests: int = 0
    nbytes: int = 0


def read(data: bytes, fetched: Fetched | None = None, size: int | None = None) -> FileContents:
    """What the reader says of a file that begins with these bytes, and is so long."""

    def fetch(start: int, stop: int) -> Piece:
        piece = data[start:stop]
        piece += bytes(min(stop, size) - start - len(piece)) if size and min(stop, size) > start + len(piece) else b""
        if fetched is not None:
            fetched.requests += 1
            fetched.nbytes += len(piece)
        return Piece(content=piece, size=size)

    return read_contents(gguf.FORMAT, "m.gguf", fetch, size)


@dataclass
class Array:
    """An array of a kind of values."""

    kind: str
    values: list[Any]


def string(text: str | bytes, order: str = "<") -> bytes:
    encoded = text.encode() if isinstance(text, str) else text
    return struct.pack(f"{order}Q", len(encoded)) + encoded


def value(item: Any, order: str = "<") -> bytes:
    """A value with its type."""
    if isinstance(item, str):
        return struct.pack(f"{order}I", 8) + string(item, order)
    if isinstance(item, bool):
        return struct.pack(f"{order}I?", 7, item)
    if isinstance(item, float):
        return struct.pack(f"{order}If", 6, item)
    if isinstance(item, int):
        return struct.pack(f"{order}II", 4, item)
    return array(item, order)


def array(item: Array, order: str = "<") -> bytes:
    if item.kind == "string":
        head = struct.pack(f"{order}IIQ", 9, 8, len(item.values))
        return head + b"".join(string(text, order) for text in item.values)
    head = struct.pack(f"{order}IIQ", 9, KINDS[item.kind], len(item.values))
    return head + struct.pack(f"{order}{len(item.values)}{LETTERS[item.kind]}", *item.values)


@dataclass
class Header:
    """The parts of a header, to be put together."""

    keys: Mapping[str, Any]
    tensors: Iterable[tuple[str, str, tuple[int, ...]]]
    version: int = 3
    order: str = "<"


def header(parts: Header) -> bytes:
    """The bytes of a header; shapes have rows first, as reports have them."""
    order, rows = parts.order, list(parts.tensors)
    found = [b"GGUF", struct.pack(f"{order}IQQ", parts.version, len(rows), len(parts.keys))]
    found += [string(key, order) + value(item, order) for key, item in parts.keys.items()]
    offset = 0
    for name, dtype, shape in rows:
        sizes = struct.pack(f"{order}I{len(shape)}Q", len(shape), *reversed(shape))
        found.append(string(name, order) + sizes + struct.pack(f"{order}IQ", NUMBERS[dtype], offset))
        row = stored_dtype(dtype)
        assert row is not None
        offset += -(-row.nbytes(prod(shape)) // 32) * 32
    return b"".join(found)
