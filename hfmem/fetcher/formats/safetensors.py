"""safetensors: a length in 8 little-endian bytes, a JSON header of that length, then the data. No I/O; headers are
validated, as files come from strangers.

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
"""Bytes requested first. 97 % of the headers of the 1,000 top models are shorter, and `huggingface_hub` requests
`bytes=0-100000` too (https://github.com/huggingface/huggingface_hub/pull/1855)."""

_MOST_ELEMENTS: Final = 2**56  # per tensor; a hundred thousand times the largest model

_LONGEST_NAME: Final = 65_535  # characters, the limit for tensor names in GGUF too
_LONGEST_DTYPE: Final = 80
_LONGEST: Final = 1024  # characters of a metadata entry with its key; longer ones are dropped
_MOST_TEXTS: Final = 64

_MIN_HEADER: Final = len(b"{}")
_METADATA: Final = "__metadata__"


def read(file: str) -> Reading:
    """Read the header of a file: its length, then its JSON."""
    length = header_length((yield Span(start=0, stop=LENGTH_BYTES)), file)
    header = yield Span(start=LENGTH_BYTES, stop=LENGTH_BYTES + length)
    if len(header) < length:
        raise InvalidHeaderError("", f"{file} ends inside its header, after {len(header):,} of {length:,} bytes")
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
    """Length of the JSON header after the first eight bytes.

    Raises:
        InvalidHeaderError: fewer than eight bytes, or an impossible length.
    """
    if len(prefix) < LENGTH_BYTES:
        raise InvalidHeaderError("", f"{file} is {len(prefix)} bytes long, too short for a safetensors file")
    length = int.from_bytes(prefix[:LENGTH_BYTES], "little")
    if length < _MIN_HEADER:
        raise InvalidHeaderError(
            "", f"{file} states a header of {length} bytes, fewer than the minimum of {_MIN_HEADER}"
        )
    if length > MAX_HEADER:
        raise InvalidHeaderError(
            "", f"{file} states a header of {length:,} bytes, more than the maximum of {MAX_HEADER:,}"
        )
    return length


def parse_header(header: bytes, file: str) -> FileContents:
    """The contents described by a JSON header.

    Raises:
        InvalidHeaderError: invalid JSON, or an entry that does not describe a tensor.
    """
    if has_too_many_parts(header):
        raise InvalidHeaderError("", f"the header of {file} has too many lists and objects")
    try:
        parsed = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise InvalidHeaderError("", f"the header of {file} is not JSON") from error
    return contents_of(parsed, file)


def contents_of(parsed: Any, file: str) -> FileContents:
    """The contents described by a header that is already parsed from JSON.

    Raises:
        InvalidHeaderError: an entry does not describe a tensor.
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
    """The metadata entries to keep: only short ones, as some files store whole training logs there."""
    short = ((key, text) for key, text in metadata.items() if type(text) is str and len(key) + len(text) <= _LONGEST)
    return islice(short, _MOST_TEXTS)


def _faults(parsed: Mapping[str, Any], file: str) -> Iterator[str]:
    """Tensors that overlap, and gaps between them. The safetensors library rejects both (`Metadata::validate` in its
    `tensor.rs`)."""
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
    """Whether a valid header can belong to a file of `size` bytes: besides its data, the file has room for a header of
    allowed length."""
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != _METADATA]
    return 0 <= size - LENGTH_BYTES - max(ends, default=0) <= MAX_HEADER


def _tensor(name: str, entry: Any, file: str) -> TensorInfo:
    if len(name) > _LONGEST_NAME:
        raise InvalidHeaderError("", f"the header of {file} has a tensor with a name of {len(name):,} characters")
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise InvalidHeaderError("", f"'{name}' in the header of {file} lacks dtype, shape or data_offsets") from error
    if type(dtype) is not str:
        raise InvalidHeaderError("", f"'{name}.dtype' in the header of {file} is {quoted(dtype)}, expected a string")
    if type(shape) is not list or not all(type(size) is int and size >= 0 for size in shape):
        raise InvalidHeaderError("", f"'{name}.shape' in the header of {file} is not a list of non-negative integers")
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        raise InvalidHeaderError("", f"'{name}.data_offsets' in the header of {file} is not a valid range of bytes")
    tensor = TensorInfo(name=name, dtype=dtype[:_LONGEST_DTYPE], shape=tuple(shape), nbytes=end - start, file=file)
    if end > 8 * _MOST_ELEMENTS or len(shape) > 16 or tensor.elements > _MOST_ELEMENTS:
        raise InvalidHeaderError("", f"'{name}' in the header of {file} is larger than any tensor")
    return tensor
