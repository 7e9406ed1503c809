"""Writes `data/config_defaults.jsonl`: the defaults of every config class of the installed `transformers`.

    python -m hfmem.probe.defaults

Many public config.json omit keys whose value is the class default, and importing a config class takes seconds. The
table contains the keys that memory can depend on; types not in the table are looked up in `transformers` itself.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

TARGET = Path(__file__).parent.parent / "data" / "config_defaults.jsonl"

# Keys that no estimate depends on: numerics of training and decoding, token ids, labels, bookkeeping.
_IRRELEVANT = re.compile(
    r"(_eps(ilon)?$|^eps$|dropout|drop_path|layerdrop|pdrop|_token_ids?$|_token_index$|_coef$|_loss|loss_|^init|init_std|"
    r"initializer|^output_(attentions|hidden|router|scores)|^return_|label|problem_type|transformers_version|"
    r"architectures|chunk_size_feed_forward|^use_cache$|softcapping|rope_theta|scaling_factor|^mask_|"
    r"^apply_spec|temperature|threshold)"
)

_MOST_ITEMS = 64


def main() -> None:
    """Write the table: a line of provenance, then one line per model type."""
    lines = [json.dumps({"transformers": transformers.__version__, "tool": "python -m hfmem.probe.defaults"})]
    for model_type in sorted(CONFIG_MAPPING_NAMES):
        config_class = CONFIG_MAPPING[model_type]
        entry = {
            "type": model_type,
            "defaults": _defaults(config_class),
            "aliases": dict(config_class.attribute_map),
            "parts": _parts(config_class),
            "choices": _choices(config_class),
            "assumed": _assumed(config_class),
            "rotary": _rotary(config_class),
        }
        lines.append(json.dumps({key: value for key, value in entry.items() if value}, separators=(",", ":")))
    TARGET.write_text("\n".join(lines) + "\n")
    print(f"{len(lines) - 1} types, {TARGET.stat().st_size:,} bytes")


def _defaults(config_class: Any) -> dict[str, Any]:
    """The static default of each key. Computed and null defaults are omitted, as a missing key means null."""
    return {
        field.name: field.default
        for field in dataclasses.fields(config_class)
        if _is_plain(field.default) and not field.name.startswith("_") and not _IRRELEVANT.search(field.name)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return 0 < len(value) <= _MOST_ITEMS and all(_is_plain(item) for item in value)
    return isinstance(value, bool | int | float | str)


def _parts(config_class: Any) -> dict[str, str]:
    """The model type of each sub-config (`text_config`, `vision_config`) whose type the class fixes."""
    return {name: part.model_type for name, part in config_class.sub_configs.items() if getattr(part, "model_type", "")}


def _rotary(config_class: Any) -> list[str]:
    """The kinds of layers that have rotary positions of their own without a word in the file: those whose default
    parameters differ."""
    try:
        found = getattr(config_class(), "rope_parameters", None)
    except Exception:
        return []
    nested = {kind: part for kind, part in (found or {}).items() if isinstance(part, dict)}
    unlike = {json.dumps(part, sort_keys=True): kind for kind, part in sorted(nested.items(), reverse=True)}
    return sorted(unlike.values()) if len(unlike) > 1 else []


def _choices(config_class: Any) -> dict[str, str]:
    """The default model type of each sub-config whose type the config.json may choose."""
    fixed = _parts(config_class)
    return {
        name: spec.model_type
        for name, spec in config_class.sub_configs_defaults.items()
        if name not in fixed and spec.model_type
    }


def _assumed(config_class: Any) -> dict[str, dict[str, Any]]:
    """Values that the class gives a sub-config missing from the file, where they differ from the defaults of the
    sub-config's own class; null counts as a value here."""
    found = {
        name: {
            key: value
            for key, value in spec.init_kwargs.items()
            if (value is None or _is_plain(value)) and not _IRRELEVANT.search(key) and key != "model_type"
        }
        for name, spec in config_class.sub_configs_defaults.items()
    }
    return {name: values for name, values in found.items() if values}


if __name__ == "__main__":
    main()
