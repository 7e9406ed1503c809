"""Files of a repository: real bytes at the front, zeros on demand behind them, so that weights cost no memory.

Header format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from hfmem.dtypes import stored_dtype
from hfmem.fetcher.patterns import Row, expand

__all__ = ["File", "gguf_file", "json_file", "safetensors_file", "safetensors_header", "text_file", "virtual_file"]

# Suffixes that a model repository's .gitattributes hands to LFS. Their content comes from the CDN.
_LFS_SUFFIXES: Final = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".ckpt", ".model")

_GGUF_STRING: Final = 8
_GGUF_UINT32: Final = 4
_GGUF_TYPES: Final = {
    "F32": 0,
    "F16": 1,
    "Q4_K": 12,
    "Q8_0": 8,
    "I8": 24,
    "I16": 25,
    "I32": 26,
    "I64": 27,
    "F64": 28,
    "BF16": 30,
}


@dataclass(frozen=True, kw_only=True)
class File:
    """One file.

    Attributes:
        name: path in the repository.
        head: the bytes it begins with.
        size: its length in bytes; what lies behind `head` is zeros.
        lfs: whether the Hub redirects to the CDN for its content.
    """

    name: str
    head: bytes
    size: int
    lfs: bool

    def read(self, first: int, last: int) -> bytes:
        """The bytes `first` to `last`, both included."""
        real = self.head[first : last + 1]
        return real + bytes(last + 1 - first - len(real))

    @cached_property
    def blob_id(self) -> str:
        """Git's name of the blob: of the content, or of the LFS pointer."""
        return hashlib.sha1(b"blob %d\0" % self.size + self.head).hexdigest()

    @cached_property
    def sha256(self) -> str:
        """The LFS object's name. Stands for the content without hashing terabytes of zeros."""
        return hashlib.sha256(b"%d\0" % self.size + self.head).hexdigest()


def virtual_file(name: str, head: bytes = b"", *, size: int | None = None, lfs: bool | None = None) -> File:
    """A file of `size` bytes (default: `head` and no more)."""
    in_lfs = name.endswith(_LFS_SUFFIXES) if lfs is None else lfs
    return File(name=name, head=head, size=len(head) if size is None else size, lfs=in_lfs)


def text_file(name: str, text: str) -> File:
    """A small file with this text."""
    return virtual_file(name, text.encode())


def json_file(name: str, content: Any) -> File:
    """A small file with this value as JSON."""
    return text_file(name, json.dumps(content, indent=2) + "\n")


def safetensors_file(
    name: str,
    rows: Iterable[Row],
    *,
    header_bytes: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> File:
    """A weight file with a real header and virtual data.

    Args:
        name: path in the repository.
        rows: patterns are spelled out.
        header_bytes: pad the JSON with spaces to exactly this length.
        metadata: content of `__metadata__`; what `transformers` writes, if not given.
    """
    header, data = safetensors_header(rows, metadata=metadata)
    if header_bytes is not None:
        if len(header) > header_bytes:
            raise ValueError(f"the header of {name} takes {len(header)} bytes, more than {header_bytes}")
        header = header.ljust(header_bytes)
    head = struct.pack("<Q", len(header)) + header
    return File(name=name, head=head, size=len(head) + data, lfs=True)


def safetensors_header(rows: Iterable[Row], *, metadata: Mapping[str, str] | None = None) -> tuple[bytes, int]:
    """The JSON of a header, and how many bytes of data it describes."""
    entries = [f'"__metadata__":{json.dumps(dict(metadata or {"format": "pt"}), separators=(",", ":"))}']
    end = 0
    for name, dtype, shape in expand(rows):
        start, end = end, end + tensor_bytes(dtype, shape)
        sizes = ",".join(map(str, shape))
        entries.append(f'{json.dumps(name)}:{{"dtype":"{dtype}","shape":[{sizes}],"data_offsets":[{start},{end}]}}')
    return f"{{{','.join(entries)}}}".encode(), end


def tensor_bytes(dtype: str, shape: Iterable[int]) -> int:
    """Bytes of one tensor; a dtype that nobody knows takes one byte an element."""
    known = stored_dtype(dtype)
    elements = element_count(shape)
    return elements if known is None else known.nbytes(elements)


def element_count(shape: Iterable[int]) -> int:
    """Product of the shape; 1 for a scalar."""
    count = 1
    for size in shape:
        count *= size
    return count


def gguf_file(name: str, rows: Iterable[Row], facts: Mapping[str, str | int]) -> File:
    """A GGUF file (version 3) with real key-values and tensor infos and virtual data.

    Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    """
    tensors = list(expand(rows))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(facts))
    head += b"".join(_gguf_fact(key, value) for key, value in facts.items())
    offset = 0
    for tensor, dtype, shape in tensors:
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        head += _gguf_string(tensor) + sizes + struct.pack("<IQ", _GGUF_TYPES[dtype], offset)
        offset += -(-tensor_bytes(dtype, shape) // 32) * 32
    head += bytes(-len(head) % 32)
    return File(name=name, head=head, size=len(head) + offset, lfs=True)


def _gguf_fact(key: str, value: str | int) -> bytes:
    if isinstance(value, str):
        return _gguf_string(key) + struct.pack("<I", _GGUF_STRING) + _gguf_string(value)
    return _gguf_string(key) + struct.pack("<II", _GGUF_UINT32, value)


def _gguf_string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded
