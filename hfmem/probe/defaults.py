"""Writes `data/config_defaults.jsonl`: the defaults of every configuration class of the installed `transformers`.

    python -m hfmem.probe.defaults

Many public config.json leave out keys whose value is the class default, and importing a configuration class takes
seconds. The table holds what memory can depend on; model types it does not have are looked up in `transformers` itself.
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

# Keys that no memory figure depends on: numerics of training and decoding, token ids, labels, bookkeeping.
_IRRELEVANT = re.compile(
    r"(_eps(ilon)?$|^eps$|dropout|drop_path|layerdrop|pdrop|_token_ids?$|_token_index$|_coef$|_loss|loss_|^init|init_std|"
    r"initializer|^output_(attentions|hidden|router|scores)|^return_|label|problem_type|transformers_version|"
    r"architectures|chunk_size_feed_forward|^use_cache$|softcapping|rope_theta|scaling_factor|^mask_|"
    r"^apply_spec|temperature|threshold)"
)

_MOST_ITEMS = 64


def main() -> None:
    """Write the table: a line of provenance, then a line a model type."""
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
        }
        lines.append(json.dumps({key: value for key, value in entry.items() if value}, separators=(",", ":")))
    TARGET.write_text("\n".join(lines) + "\n")
    print(f"{len(lines) - 1} types, {TARGET.stat().st_size:,} bytes")


def _defaults(config_class: Any) -> dict[str, Any]:
    """Static defaults a key; keys whose default is computed or null are left out (null is what absence means)."""
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
    """Model type of each part (`text_config`, `vision_config`) that the class fixes."""
    return {name: part.model_type for name, part in config_class.sub_configs.items() if getattr(part, "model_type", "")}


def _choices(config_class: Any) -> dict[str, str]:
    """Model type of each part that the file may choose, where it does not."""
    fixed = _parts(config_class)
    return {
        name: spec.model_type
        for name, spec in config_class.sub_configs_defaults.items()
        if name not in fixed and spec.model_type
    }


def _assumed(config_class: Any) -> dict[str, dict[str, Any]]:
    """Keys of each part that the file does not have at all, where they are not those of the part's own class; null is
    a value here, where that class has another."""
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
