"""safetensors: 8 bytes of little-endian length, then that much JSON, then the data. Pure; nothing is trusted.

Format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from hfmem.errors import InvalidHeaderError, quoted
from hfmem.fetcher.configs import has_too_many_parts
from hfmem.fetcher.formats.protocol import FileContents, Format, Reading, Span
from hfmem.fetcher.values import TensorInfo

__all__ = ["FORMAT", "MAX_HEADER", "PREFETCH", "belongs", "contents_of", "header_length", "parse_header", "read"]

LENGTH_BYTES: Final = 8
MAX_HEADER: Final = 25_000_000
"""Longest header read, in bytes; the same limit as `huggingface_hub.constants.SAFETENSORS_MAX_HEADER_LENGTH`."""

PREFETCH: Final = 100_001
"""Bytes asked for first: `huggingface_hub` found 97 % of the headers of the 1,000 top models to be shorter
(https://github.com/huggingface/huggingface_hub/pull/1855), and asks for `bytes=0-100000` too."""

_MOST_ELEMENTS: Final = 2**56  # of one tensor: a hundred thousand times the largest model

_LONGEST_NAME: Final = 65_535  # characters of a tensor's, as of GGUF's
_LONGEST_DTYPE: Final = 80
_LONGEST: Final = 1024  # characters of a text that is kept, with its name
_MOST_TEXTS: Final = 64

_MIN_HEADER: Final = len(b"{}")
_METADATA: Final = "__metadata__"


def read(file: str) -> Reading:
    """Read the header of a file: its length, then as much JSON."""
    length = header_length((yield Span(start=0, stop=LENGTH_BYTES)), file)
    header = yield Span(start=LENGTH_BYTES, stop=LENGTH_BYTES + length)
    if len(header) < length:
        raise InvalidHeaderError("", f"{file} ends inside its header: {len(header):,} of {length:,} bytes are there")
    contents = parse_header(header, file)
    whole = LENGTH_BYTES + length + sum(tensor.nbytes for tensor in contents.tensors)
    return replace(contents, length=None if contents.faults else whole)


FORMAT: Final = Format(
    name="safetensors",
    suffixes=(".safetensors",),
    read=read,
    head=PREFETCH,
    most_bytes=LENGTH_BYTES + MAX_HEADER,
    most_requests=2,
)


def header_length(prefix: bytes, file: str) -> int:
    """Length of the JSON that follows the first eight bytes.

    Raises:
        InvalidHeaderError: fewer than eight bytes, or a length no header has.
    """
    if len(prefix) < LENGTH_BYTES:
        raise InvalidHeaderError("", f"{file} is {len(prefix)} bytes long, too short for a safetensors file")
    length = int.from_bytes(prefix[:LENGTH_BYTES], "little")
    if length < _MIN_HEADER:
        raise InvalidHeaderError("", f"{file} says that its header is {length} bytes long, too short for one")
    if length > MAX_HEADER:
        raise InvalidHeaderError("", f"{file} says that its header is {length:,} bytes long, more than {MAX_HEADER:,}")
    return length


def parse_header(header: bytes, file: str) -> FileContents:
    """What the JSON of a header says.

    Raises:
        InvalidHeaderError: not JSON, or an entry that cannot be a tensor.
    """
    if has_too_many_parts(header):
        raise InvalidHeaderError("", f"the header of {file} holds more lists and objects than that of any file")
    try:
        parsed = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise InvalidHeaderError("", f"the header of {file} is not JSON") from error
    return contents_of(parsed, file)


def contents_of(parsed: Any, file: str) -> FileContents:
    """What a header says that is already parsed from JSON.

    Raises:
        InvalidHeaderError: an entry that cannot be a tensor.
    """
    if not isinstance(parsed, dict):
        raise InvalidHeaderError("", f"the header of {file} is not a JSON object")
    metadata = parsed.get(_METADATA)
    return FileContents(
        tensors=tuple(_tensor(name, entry, file) for name, entry in parsed.items() if name != _METADATA),
        metadata=dict(_texts(metadata)) if isinstance(metadata, dict) else {},
        faults=tuple(_faults(parsed, file)),
    )


def _texts(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is kept of a file's own words: the format has text by name, and whole training logs are stored there."""
    short = ((key, text) for key, text in metadata.items() if type(text) is str and len(key) + len(text) <= _LONGEST)
    return islice(short, _MOST_TEXTS)


def _faults(parsed: Mapping[str, Any], file: str) -> Iterator[str]:
    """What no writer of the format does: tensors that overlap, and bytes between them that are nobody's. The library
    refuses both (`Metadata::validate` in its `tensor.rs`)."""
    spans = sorted((*entry["data_offsets"], name) for name, entry in parsed.items() if name != _METADATA)
    end, before = 0, ""
    for start, stop, name in spans:
        if start < end:
            yield f"'{name}' begins inside '{before}' in {file}"
            return
        if start > end:
            yield f"{start - end:,} bytes before '{name}' in {file} belong to no tensor"
            return
        end, before = stop, name


def belongs(header: Mapping[str, Any], size: int) -> bool:
    """Whether a header whose tensors were read can be that of a file of so many bytes: its data must leave room for a
    header, and for no more."""
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != _METADATA]
    return 0 <= size - LENGTH_BYTES - max(ends, default=0) <= MAX_HEADER


def _tensor(name: str, entry: Any, file: str) -> TensorInfo:
    if len(name) > _LONGEST_NAME:
        raise InvalidHeaderError("", f"the header of {file} has a tensor with a name of {len(name):,} characters")
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise InvalidHeaderError("", f"'{name}' in the header of {file} has no dtype, shape or data_offsets") from error
    if type(dtype) is not str:
        raise InvalidHeaderError("", f"'{name}.dtype' in the header of {file} is {quoted(dtype)}, expected a string")
    if type(shape) is not list or not all(type(size) is int and size >= 0 for size in shape):
        raise InvalidHeaderError("", f"'{name}.shape' in the header of {file} is not a list of whole numbers")
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        raise InvalidHeaderError("", f"'{name}.data_offsets' in the header of {file} are not a range of bytes")
    tensor = TensorInfo(name=name, dtype=dtype[:_LONGEST_DTYPE], shape=tuple(shape), nbytes=end - start, file=file)
    if end > 8 * _MOST_ELEMENTS or len(shape) > 16 or tensor.elements > _MOST_ELEMENTS:
        raise InvalidHeaderError("", f"'{name}' in the header of {file} is larger than any tensor")
    return tensor
