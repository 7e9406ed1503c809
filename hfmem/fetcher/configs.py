"""Reading JSON that others wrote: config.json and its neighbours."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from hfmem.errors import InvalidConfigError

__all__ = ["CONFIG", "parse_object", "shard_names"]

CONFIG: Final = "config.json"


def parse_object(content: bytes, file: str) -> dict[str, Any]:
    """The JSON object of a file.

    A second document after the first is ignored, as some files on the Hub have one; so is a byte-order mark.

    Raises:
        InvalidConfigError: not JSON, or not an object.
    """
    try:
        text = content.decode("utf-8-sig")
        parsed, _ = json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError) as error:
        raise InvalidConfigError("", f"{file} is not JSON") from error
    if not isinstance(parsed, dict):
        raise InvalidConfigError("", f"{file} is not a JSON object")
    return parsed


def shard_names(index: dict[str, Any]) -> set[str]:
    """The files that an index's `weight_map` names; only plain names of the same folder.

    Raises:
        InvalidConfigError: no usable `weight_map`.
    """
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidConfigError("", "the index of the shards has no weight_map")
    names = set(weight_map.values())
    if not all(isinstance(name, str) and re.fullmatch(r"[\w.\-]+\.safetensors", name) for name in names):
        raise InvalidConfigError("", "the index of the shards names files that are not safetensors of the same folder")
    return names
