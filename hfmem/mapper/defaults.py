"""Defaults of transformers' config classes, from the bundled table or from the installed `transformers`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from hfmem.data import text as data_text

__all__ = ["ConfigClass", "config_class"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigClass:
    """A config class of `transformers`, as far as it affects keys that are missing in a config.json.

    Attributes:
        defaults: default value of each key; keys with a null or computed default are absent.
        aliases: the class's `attribute_map` (`hidden_size` -> `n_embd`).
        parts: fixed model type of nested configs (`text_config`).
        choices: default model type of nested configs whose type the file may choose.
        assumed: contents of a nested config that is missing altogether, where they differ from the nested class's own
            defaults.
        rotary: kinds of layers that have rotary positions of their own where the file says nothing.
        source: where this is from, with the version.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)
    assumed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rotary: tuple[str, ...] = ()
    source: str = ""


@cache
def config_class(model_type: str) -> ConfigClass | None:
    """The config class of a model type; None where neither the table nor the installed `transformers` has it.

    Importing `transformers` takes seconds, so it is done only for types that are newer than the table.
    """
    return _from_table(model_type) or _from_transformers(model_type)


def _from_table(model_type: str) -> ConfigClass | None:
    text = data_text("config_defaults.jsonl")
    start = text.find(f'\n{{"type":{json.dumps(model_type)}')
    if start < 0:
        return None
    version = json.loads(text[: text.index("\n")])["transformers"]
    row = json.loads(text[start + 1 : text.index("\n", start + 1)])
    return ConfigClass(
        defaults=row.get("defaults", {}),
        aliases=row.get("aliases", {}),
        parts=row.get("parts", {}),
        choices=row.get("choices", {}),
        assumed=row.get("assumed", {}),
        rotary=tuple(row.get("rotary", ())),
        source=f"transformers {version} configuration class",
    )


def _from_transformers(model_type: str) -> ConfigClass | None:
    if not _is_named(model_type):
        return None
    import dataclasses

    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        return None
    found = CONFIG_MAPPING[model_type]
    plain = bool | int | float | str
    return ConfigClass(
        defaults={item.name: item.default for item in dataclasses.fields(found) if isinstance(item.default, plain)},
        aliases=dict(found.attribute_map),
        parts={name: part.model_type for name, part in found.sub_configs.items() if getattr(part, "model_type", "")},
        choices={name: spec.model_type for name, spec in found.sub_configs_defaults.items() if spec.model_type},
        assumed={name: dict(spec.init_kwargs) for name, spec in found.sub_configs_defaults.items()},
        source=f"transformers {transformers.__version__} configuration class",
    )


def _is_named(model_type: str) -> bool:
    """Whether the installed `transformers` knows a type. Its source files are searched as text, so that types with
    remote code cost no import."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return False
    tables = [Path(spec.origin).parent / "models" / "auto" / name for name in _TABLES]
    return any(json.dumps(model_type) in path.read_text(encoding="utf-8") for path in tables if path.exists())


_TABLES: Final = ("auto_mappings.py", "configuration_auto.py")
