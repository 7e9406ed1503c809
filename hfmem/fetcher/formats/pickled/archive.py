"""The directory of a zip archive, from its end; and where a record's bytes begin.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (4.3.12 to 4.3.16, and 4.5.3 for sizes of 64 bits).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from hfmem.errors import InvalidHeaderError
from hfmem.fetcher.formats.protocol import Span
from hfmem.units import MIB

__all__ = ["MAGIC", "Record", "content_of", "directory"]

MAGIC: Final = b"PK\x03\x04"

_END: Final = struct.Struct("<4s4H2LH")
_END_64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR: Final = struct.Struct("<4sLQL")
_ENTRY: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_LONGEST_END: Final = _LOCATOR.size + _END_64.size + _END.size + 65_535
_LONGEST_EXTRA: Final = 4096  # PyTorch pads a record to 64 bytes; others may align to a page
_LARGEST_DIRECTORY: Final = 48 * MIB
_LARGEST_RECORD: Final = 48 * MIB  # of those that are read: pickles, not data
_FULL_32: Final = 0xFFFFFFFF
_FULL_16: Final = 0xFFFF
_STORED: Final = 0
_DEFLATED: Final = 8

Steps = Generator[Span, bytes, "dict[str, Record]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A file in the archive.

    Attributes:
        name: its name.
        size: its bytes, once unpacked.
        packed: its bytes in the archive.
        method: 0 for stored, 8 for deflated.
        offset: where its own header begins.
    """

    name: str
    size: int
    packed: int
    method: int
    offset: int


def directory(file: str, tail: int) -> Steps:
    """Read the directory of an archive, mostly from the bytes at its end that were fetched first.

    Args:
        file: its name, for errors.
        tail: bytes at the end to look at first.

    Raises:
        InvalidHeaderError: there is none, or it contradicts itself.
    """
    end = yield Span(start=-tail, stop=None)
    place = end.rfind(b"PK\x05\x06")
    if place < 0 and tail < _LONGEST_END:
        end = yield Span(start=-_LONGEST_END, stop=None)
        place = end.rfind(b"PK\x05\x06")
    if place < 0 or len(end) < place + _END.size:
        raise InvalidHeaderError("", f"{file} has no directory at its end, as a zip archive has: it may be cut")
    _, _, _, _, count, size, start, _ = _END.unpack_from(end, place)
    if _FULL_32 in (size, start) or count == _FULL_16:
        count, size, start = yield from _wide(file, end, place)
    if size > _LARGEST_DIRECTORY or count * _ENTRY.size > size:
        raise InvalidHeaderError("", f"the directory of {file} has {count:,} records in {size:,} bytes")
    entries = yield Span(start=start, stop=start + size)
    return dict(_entries(file, entries, count))


def _wide(file: str, end: bytes, place: int) -> Generator[Span, bytes, tuple[int, int, int]]:
    """Count, size and offset of a directory of 64 bits."""
    at = place - _LOCATOR.size
    if at < 0 or end[at : at + 4] != b"PK\x06\x07":
        raise InvalidHeaderError("", f"the directory of {file} has no record of its size")
    _, _, offset, _ = _LOCATOR.unpack_from(end, at)
    wide = yield Span(start=offset, stop=offset + _END_64.size)
    if len(wide) < _END_64.size or not wide.startswith(b"PK\x06\x06"):
        raise InvalidHeaderError("", f"the directory of {file} has no record of its size")
    *_, count, size, start = _END_64.unpack(wide)
    return count, size, start


def _entries(file: str, entries: bytes, count: int) -> list[tuple[str, Record]]:
    found: list[tuple[str, Record]] = []
    place = 0
    for _ in range(count):
        if len(entries) < place + _ENTRY.size or entries[place : place + 4] != b"PK\x01\x02":
            raise InvalidHeaderError("", f"the directory of {file} ends after {len(found):,} of {count:,} records")
        fields = _ENTRY.unpack_from(entries, place)
        method, packed, size, offset = fields[4], fields[8], fields[9], fields[16]
        name_length, extra_length, comment_length = fields[10:13]
        name_at = place + _ENTRY.size
        extra_at = name_at + name_length
        name = entries[name_at:extra_at].decode("utf-8", "replace")
        extra = entries[extra_at : extra_at + extra_length]
        size, packed, offset = _widened(file, extra, size, packed, offset)
        found.append((name, Record(name=name, size=size, packed=packed, method=method, offset=offset)))
        place = extra_at + extra_length + comment_length
    return found


def _widened(file: str, extra: bytes, *sizes: int) -> tuple[int, int, int]:
    """Size, packed size and offset, of which those that need more than 32 bits are in the extra field 1."""
    wide = [size for size in sizes if size == _FULL_32]
    values: list[int] = []
    place = 0
    while wide and place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == 1:
            body = extra[place + 4 : place + 4 + length]
            values = [value for (value,) in struct.iter_unpack("<Q", body[: len(body) // 8 * 8])]
            break
        place += 4 + length
    if len(values) < len(wide):
        raise InvalidHeaderError("", f"the directory of {file} has no size of a record")
    given = iter(values)
    size, packed, offset = (next(given) if size == _FULL_32 else size for size in sizes)
    return size, packed, offset


def content_of(file: str, record: Record) -> Generator[Span, bytes, bytes]:
    """Read a record.

    Raises:
        InvalidHeaderError: it is not where the directory says, too long, or packed in a way that is not known.
    """
    if max(record.packed, record.size) > _LARGEST_RECORD:
        raise InvalidHeaderError("", f"'{record.name}' in {file} is longer than any pickle of tensors")
    start = record.offset
    local = yield Span(
        start=start, stop=start + _LOCAL.size + len(record.name.encode()) + _LONGEST_EXTRA + record.packed
    )
    if len(local) < _LOCAL.size or not local.startswith(MAGIC):
        raise InvalidHeaderError("", f"'{record.name}' is not where the directory of {file} says")
    *_, name_length, extra_length = _LOCAL.unpack_from(local)
    begin = _LOCAL.size + name_length + extra_length
    if len(local) < begin + record.packed:
        local = yield Span(start=start, stop=start + begin + record.packed)
    packed = local[begin : begin + record.packed]
    if len(packed) < record.packed:
        raise InvalidHeaderError("", f"{file} ends inside '{record.name}'")
    return _unpacked(file, record, packed)


def _unpacked(file: str, record: Record, packed: bytes) -> bytes:
    if record.method == _STORED:
        return packed
    if record.method != _DEFLATED:
        raise InvalidHeaderError("", f"'{record.name}' in {file} is packed in a way that PyTorch does not read")
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, record.size or 1)
    except zlib.error as error:
        raise InvalidHeaderError("", f"'{record.name}' in {file} cannot be unpacked") from error
