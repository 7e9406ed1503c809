"""Parsing of untrusted JSON: config.json and related files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from hfmem.errors import InvalidConfigError
from hfmem.units import MIB

__all__ = [
    "ADAPTER",
    "CONFIG",
    "LONGEST_CONFIG",
    "LONGEST_INDEX",
    "PROCESSOR_FILES",
    "QUANTISATION_FILES",
    "has_too_many_parts",
    "parse_object",
    "processor_settings",
    "quantisation_file",
    "shards_of",
]

CONFIG: Final = "config.json"

ADAPTER: Final = "adapter_config.json"
"""PEFT's config of an adapter, with its settings and base model."""

PROCESSOR_FILES: Final = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""What a processor, which prepares images, videos and sound, reads of its settings."""

LONGEST_CONFIG: Final = 16 * MIB
"""Maximum bytes of a config that is read; configs with thousands of labels have one MB."""

LONGEST_INDEX: Final = 64 * MIB
"""Maximum bytes of a shard index that is read; that of an MoE model with a trillion parameters has about 10 MB."""

QUANTISATION_FILES: Final = ("hf_quant_config.json", "quantize_config.json")
"""Where ModelOpt and older GPTQ tools write the quantisation config, which others put into config.json."""


_MOST_PARTS: Final = 1_000_000
"""Maximum lists and objects in JSON; a listing of 100,000 files has 300,000. Each takes about 100 bytes of memory when
parsed, even if it is 2 bytes of text."""


def has_too_many_parts(content: bytes, most: int = _MOST_PARTS) -> bool:
    """Whether JSON has more than `most` lists and objects, and could exhaust memory when parsed."""
    return content.count(b"[") + content.count(b"{") > most


def parse_object(content: bytes, file: str, most: int = _MOST_PARTS) -> dict[str, Any]:
    """The JSON object of a file.

    A second document after the first is ignored, as some files on the Hub have one; so is a byte-order mark.

    Raises:
        InvalidConfigError: not JSON, not an object, or more than `most` lists and objects.
    """
    if has_too_many_parts(content, most):
        raise InvalidConfigError("", f"{file} has more than {most:,} lists and objects, the maximum that is read")
    try:
        text = content.decode("utf-8-sig")
        parsed, _ = json.JSONDecoder().raw_decode(text, len(text) - len(text.lstrip()))
    except json.JSONDecodeError as error:
        raise InvalidConfigError("", f"{file} is not JSON: {_fault(error, text)}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidConfigError("", f"{file} is not JSON") from error
    if not isinstance(parsed, dict):
        raise InvalidConfigError("", f"{file} is not a JSON object")
    return parsed


def _fault(error: json.JSONDecodeError, text: str) -> str:
    """The parser's error message and position."""
    if not text.strip():
        return "it is empty"
    at = "at its end" if not text[error.pos :].strip() else f"in line {error.lineno}, column {error.colno}"
    return f"{error.msg[:1].lower()}{error.msg[1:]} {at}"


def quantisation_file(config: Mapping[str, Any] | None, files: Iterable[str]) -> str | None:
    """The file with the quantisation config, if config.json has none."""
    if config is None or config.get("quantization_config") is not None:
        return None
    names = set(files)
    return next((name for name in QUANTISATION_FILES if name in names), None)


_MOST_SETTINGS: Final = 1000  # items of a list; older files of speech models have a bank of filters with 16,000


def processor_settings(parsed: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a processor's file, without filter banks and the like."""
    return {
        key: processor_settings(value) if isinstance(value, Mapping) else value
        for key, value in parsed.items()
        if not (isinstance(value, list) and _items(value) > _MOST_SETTINGS)
    }


def _items(values: list[Any]) -> int:
    return sum(len(value) if isinstance(value, list) else 1 for value in values)


def shards_of(index: dict[str, Any]) -> dict[str, str]:
    """The file of each tensor, from an index's `weight_map`; only plain file names in the same folder are accepted.

    Raises:
        InvalidConfigError: no usable `weight_map`.
    """
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidConfigError("", "the index of the shards has no weight_map")
    named = weight_map.values()
    plain = all(isinstance(name, str) for name in named)
    if not plain or not all(re.fullmatch(r"[\w.\-]+\.safetensors", name) for name in set(named)):
        raise InvalidConfigError("", "the index of the shards names files that are not safetensors of the same folder")
    return weight_map
