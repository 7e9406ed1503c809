"""Reading JSON that others wrote: config.json and its neighbours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from hfmem.errors import InvalidConfigError
from hfmem.units import MIB

__all__ = [
    "CONFIG",
    "LONGEST_CONFIG",
    "LONGEST_INDEX",
    "QUANTISATION_FILES",
    "parse_object",
    "quantisation_file",
    "shard_names",
]

CONFIG: Final = "config.json"

LONGEST_CONFIG: Final = 16 * MIB
"""Bytes of the longest configuration that is read: those of models with thousands of labels have one."""

LONGEST_INDEX: Final = 64 * MIB
"""Bytes of the longest index of shards that is read: a mixture of a trillion parameters has some ten."""

QUANTISATION_FILES: Final = ("hf_quant_config.json", "quantize_config.json")
"""Where ModelOpt and older GPTQ tools write what others put into config.json."""


def parse_object(content: bytes, file: str) -> dict[str, Any]:
    """The JSON object of a file.

    A second document after the first is ignored, as some files on the Hub have one; so is a byte-order mark.

    Raises:
        InvalidConfigError: not JSON, or not an object.
    """
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
    """Where the parser stopped, and why, in its words."""
    if not text.strip():
        return "it is empty"
    at = "at its end" if not text[error.pos :].strip() else f"in line {error.lineno}, column {error.colno}"
    return f"{error.msg[:1].lower()}{error.msg[1:]} {at}"


def quantisation_file(config: Mapping[str, Any] | None, files: Iterable[str]) -> str | None:
    """The file that describes the quantisation, where config.json does not."""
    if config is None or config.get("quantization_config") is not None:
        return None
    names = set(files)
    return next((name for name in QUANTISATION_FILES if name in names), None)


def shard_names(index: dict[str, Any]) -> set[str]:
    """The files that an index's `weight_map` names; only plain names of the same folder.

    Raises:
        InvalidConfigError: no usable `weight_map`.
    """
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidConfigError("", "the index of the shards has no weight_map")
    named = list(weight_map.values())
    names = {name for name in named if isinstance(name, str)}
    if not all(isinstance(name, str) and re.fullmatch(r"[\w.\-]+\.safetensors", name) for name in named):
        raise InvalidConfigError("", "the index of the shards names files that are not safetensors of the same folder")
    return names
