"""Defaults of configuration classes: from the bundled table, else from the installed `transformers`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

__all__ = ["ConfigClass", "config_class"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigClass:
    """What a configuration class of `transformers` says of keys that a config.json leaves out.

    Attributes:
        defaults: value a key; keys whose default is null or computed are absent.
        aliases: a key's other spelling, as the class maps it (`hidden_size` to `n_embd`).
        parts: model type of each nested configuration that the class fixes (`text_config`).
        choices: model type of each nested configuration that the file may choose, where it does not.
        assumed: keys of a nested configuration that the file leaves out altogether, where they are not the defaults of
            the nested class itself.
        source: where this is from, with the version.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)
    assumed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = ""


@cache
def config_class(model_type: str) -> ConfigClass | None:
    """The class of a model type; None where neither the table nor the installed `transformers` has it.

    Importing `transformers` takes seconds, so only types that are newer than the table pay for it.
    """
    return _from_table(model_type) or _from_transformers(model_type)


def _from_table(model_type: str) -> ConfigClass | None:
    text = files("hfmem.data").joinpath("config_defaults.jsonl").read_text(encoding="utf-8")
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
    """Whether the installed `transformers` has a type, by the text of its tables: types of own code need no import."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return False
    tables = [Path(spec.origin).parent / "models" / "auto" / name for name in _TABLES]
    return any(json.dumps(model_type) in path.read_text(encoding="utf-8") for path in tables if path.exists())


_TABLES: Final = ("auto_mappings.py", "configuration_auto.py")
