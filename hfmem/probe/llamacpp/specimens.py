"""Files of every architecture, made by asking llama.cpp what it misses: the smallest that it loads.

llama.cpp names each key and each tensor that it lacks, and the shape that it expects; the file grows by that until
it loads. A file is a header and a hole of the right size.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Final

from hfmem.fetcher.values import Checkpoint, FileInfo, ModelRef, TensorInfo
from hfmem.mapper.gguf.layout import Blocks, layout_of
from hfmem.mapper.gguf.reader import architecture_of
from hfmem.probe.llamacpp.library import LlamaError, library

__all__ = ["DEFAULTS", "Specimen", "discovered", "grown", "loads", "typed"]

_ALIGNMENT: Final = 32
_ROUNDS: Final = 900
_MARKS: Final = {
    "u32": (4, "<I"),
    "i32": (5, "<i"),
    "f32": (6, "<f"),
    "bool": (7, "<?"),
    "str": (8, ""),
    "u64": (10, "<Q"),
    "i64": (11, "<q"),
}
_WORDS: Final = {"u32": "UINT32", "i32": "INT32", "f32": "FLOAT32", "bool": "BOOL", "str": "STRING"}

_MISSING_KEY: Final = re.compile(r"key not found in model: (\S+)")
_MISSING_ARRAY: Final = re.compile(r"array key not found in model: (\S+)")
_WRONG_TYPE: Final = re.compile(r"key (\S+) has wrong type (\w+) but expected type (\w+)")
_MISSING_TENSOR: Final = re.compile(r"(?:missing tensor|tensor) '([^']+)'(?: not found|)")
_SHAPE: Final = re.compile(r"tensor '([^']+)' has wrong shape; expected ([\d, ]+), got")
_UNUSED: Final = re.compile(r"wrong number of tensors")

DEFAULTS: Final[Mapping[str, Any]] = {
    "context_length": 131072,
    "vocab_size": 8192,
    "block_count": 3,
    "embedding_length": 768,
    "feed_forward_length": 1536,
    "expert_feed_forward_length": 512,
    "expert_shared_feed_forward_length": 640,
    "expert_chunk_feed_forward_length": 512,
    "attention.head_count": 12,
    "attention.head_count_kv": 4,
    "attention.key_length": 96,
    "attention.value_length": 96,
    "rope.dimension_count": 32,
    "expert_count": 16,
    "expert_used_count": 4,
    "attention.sliding_window": 512,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 1536,
    "ssm.state_size": 64,
    "ssm.time_step_rank": 24,
    "ssm.group_count": 4,
    "shortconv.l_cache": 3,
    "wkv.head_size": 64,
    "attention.q_lora_rank": 160,
    "attention.kv_lora_rank": 128,
    "attention.key_length_mla": 96,
    "attention.value_length_mla": 64,
    "leading_dense_block_count": 1,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "attention.layer_norm_epsilon": 1e-5,
    "rope.freq_base": 10000.0,
}
"""Values of keys, where a file needs them; others are 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """A file without weights.

    Attributes:
        architecture: `general.architecture`.
        keys: values without the architecture's prefix; lists are one value a layer.
        tensors: shapes as llama.cpp has them (the contiguous dimension first), by name.
        formats: the number of each tensor's format and its bytes; those that are not named are of float32.
    """

    architecture: str
    keys: Mapping[str, Any]
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    formats: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def _named(self, key: str) -> str:
        """A key as the file has it: those that begin with a point, and the tokenizer's, are not the architecture's."""
        if key.startswith("."):
            return key[1:]
        return key if key.startswith("tokenizer.") else f"{self.architecture}.{key}"

    def blocks(self) -> Blocks | None:
        """What llama.cpp reads of it."""
        checkpoint = self.checkpoint()
        return layout_of(checkpoint, architecture_of(checkpoint))

    def checkpoint(self) -> Checkpoint:
        """The file as the fetcher reads it."""
        keys = {f"{self.architecture}.{key}": value for key, value in self.keys.items()}
        file = FileInfo(name="specimen.gguf", size=None)
        tensors = tuple(
            TensorInfo(name=name, dtype="F32", shape=shape[::-1], nbytes=4 * prod(shape), file=file.name)
            for name, shape in self.tensors.items()
        )
        return Checkpoint(
            ref=ModelRef(model_id=file.name),
            commit=None,
            source="local",
            provenance="",
            config=None,
            tensors=tensors,
            files=(file,),
            weight_files=(file,),
            metadata={file.name: {"general.architecture": self.architecture, **keys}},
        )

    def write(self, path: Path) -> None:
        """Write it: aligned, a hole in place of the weights."""
        values: list[tuple[str, Any]] = [
            ("general.architecture", self.architecture),
            ("tokenizer.ggml.model", "no_vocab"),
            *((self._named(key), value) for key, value in self.keys.items()),
        ]
        out = struct.pack("<4sIQQ", b"GGUF", 3, len(self.tensors), len(values))
        out += b"".join(_text(key) + _value(value) for key, value in values)
        offset = 0
        for name, shape in self.tensors.items():
            kind, nbytes = self.formats.get(name, (0, 4 * prod(shape)))
            out += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
            offset += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        with path.open("wb") as file:
            file.write(out + bytes(-len(out) % _ALIGNMENT))
            file.truncate(len(out) + -len(out) % _ALIGNMENT + offset)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(value: Any) -> bytes:
    if isinstance(value, list):
        mark, form = _MARKS[_kind(value[0])]
        return struct.pack("<IIQ", 9, mark, len(value)) + b"".join(struct.pack(form, item) for item in value)
    mark, form = _MARKS[_kind(value)]
    return struct.pack("<I", mark) + (_text(value) if mark == 8 else struct.pack(form, value))


class Signed(int):
    """A whole number that a file has as i32."""


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int) and (isinstance(value, Signed) or not 0 <= value < 2**32):
        return "i32" if -(2**31) <= value < 2**31 else "u64" if value > 0 else "i64"
    return {int: "u32", float: "f32", str: "str"}[type(value)]


def discovered(
    architecture: str,
    keys: Mapping[str, Any],
    path: Path,
    load: Callable[[Path], object],
    *,
    tensors: Mapping[str, tuple[int, ...]] | None = None,
) -> Specimen:
    """The smallest file of an architecture with these keys that `load` takes.

    Raises:
        LlamaError: llama.cpp asks for something that is not understood here.
    """
    return grown(Specimen(architecture=architecture, keys=dict(keys), tensors=dict(tensors or {})), path, load)


def loads(path: Path) -> None:
    """Load a model, and let it go."""
    loaded = library()
    loaded.free(loaded.model(path))


def _grown(specimen: Specimen, log: str) -> Specimen:
    """The file with what llama.cpp said it lacks."""
    if _UNUSED.search(log):
        raise LlamaError("a tensor is not used")
    if found := _SHAPE.search(log):
        shape = tuple(int(size) for size in found[2].split(",") if size.strip())
        return replace(specimen, tensors={**specimen.tensors, found[1]: shape})
    if (found := _MISSING_TENSOR.search(log)) and found[1] not in specimen.tensors:
        return replace(specimen, tensors={**specimen.tensors, found[1]: (1,)})
    prefix = f"{specimen.architecture}."
    if found := _MISSING_ARRAY.search(log):
        key = found[1].removeprefix(prefix)
        count = int(specimen.keys.get("block_count", DEFAULTS["block_count"]))
        return replace(specimen, keys={**specimen.keys, key: [DEFAULTS.get(key, 1)] * count})
    if found := _MISSING_KEY.search(log):
        key = found[1].removeprefix(prefix)
        if key in specimen.keys:
            raise LlamaError(log[-400:])
        return replace(specimen, keys={**specimen.keys, key: DEFAULTS.get(key, 1)})
    return _retyped(specimen, log)


def grown(specimen: Specimen, path: Path, load: Callable[[Path], object]) -> Specimen:
    """The file, with the keys that `load` asks for besides its own.

    Raises:
        LlamaError: it is not taken.
    """
    return _mended(specimen, path, load, _grown)


def typed(specimen: Specimen, path: Path, load: Callable[[Path], object]) -> Specimen:
    """The file, with the types of its values as `load` wants them; nothing is added to it.

    Raises:
        LlamaError: it is not taken.
    """
    return _mended(specimen, path, load, _retyped)


def _mended(
    specimen: Specimen, path: Path, load: Callable[[Path], object], mend: Callable[[Specimen, str], Specimen]
) -> Specimen:
    """The file, after `mend` has changed it by each log of a refusal until `load` takes it."""
    for _ in range(_ROUNDS):
        specimen.write(path)
        try:
            load(path)
        except LlamaError as error:
            specimen = mend(specimen, str(error))
        else:
            return specimen
    raise LlamaError(f"{specimen.architecture}: no end after {_ROUNDS} rounds")


def _retyped(specimen: Specimen, log: str) -> Specimen:
    """The file with a value of the type that llama.cpp expects."""
    found = _WRONG_TYPE.search(log)
    key = found[1].removeprefix(f"{specimen.architecture}.") if found else ""
    if found is None or key not in specimen.keys:
        raise LlamaError(log[-400:])
    value = specimen.keys[key]
    value = value[0] if isinstance(value, list) else value
    kind: dict[str, Callable[[Any], Any]] = {
        "f32": float,
        "i32": Signed,
        "u32": int,
        "bool": bool,
        "str": str,
        "arr": lambda one: [one] * 4,
    }
    return replace(specimen, keys={**specimen.keys, key: kind[found[3]](value)})
