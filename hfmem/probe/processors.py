"""Writes `hfmem/data/processors.jsonl`: which classes prepare images, videos and sound for a model type, and their
default settings, from the installed transformers.

    python -m hfmem.probe.processors
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

__all__ = ["main", "rows"]

_DATA: Final = Path(__file__).parents[1] / "data" / "processors.jsonl"
_LOOKS: Final = frozenset(
    (
        *("image_mean", "image_std", "mean", "std", "resample", "rescale_factor", "mel_filters", "window", "dither"),
        *("model_input_names", "do_rescale", "do_normalize", "do_convert_rgb", "default_to_square", "font"),
        *("skip_tensor_conversion", "background_color", "return_row_col_info", "data_format", "return_tensors"),
    )
)
"""Settings that change pixels, samples or results in form, and no count."""


def main() -> int:
    """Write the table."""
    head = {"source": f"transformers {version('transformers')}: the classes and their defaults"}
    lines = [json.dumps(line, separators=(",", ":")) for line in (head, *rows())]
    _DATA.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines) - 1} rows, {_DATA.stat().st_size:,} bytes")
    return 0


def rows() -> Iterator[dict[str, Any]]:
    """A row for each model type with a class of its own, then one for each class."""
    classes: dict[str, Mapping[str, Any]] = {}
    for model_type, parts in sorted(_types().items()):
        kept = {}
        for part, name in parts.items():
            if name not in classes:
                try:
                    classes[name] = _defaults(part, name)
                except Exception as error:
                    print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
                    continue
            kept[part] = name
        if kept:
            yield {"type": model_type, **kept}
    for name in sorted(classes):
        yield {"class": name, "defaults": classes[name]}


def _types() -> dict[str, dict[str, str]]:
    """The names of the classes of each model type, by part."""
    auto = "transformers.models.auto."
    tables = {
        "processor": import_module(auto + "processing_auto").PROCESSOR_MAPPING_NAMES,
        "image": import_module(auto + "image_processing_auto").IMAGE_PROCESSOR_MAPPING_NAMES,
        "video": import_module(auto + "video_processing_auto").VIDEO_PROCESSOR_MAPPING_NAMES,
        "audio": import_module(auto + "feature_extraction_auto").FEATURE_EXTRACTOR_MAPPING_NAMES,
    }
    modelling = import_module(auto + "modeling_auto")
    wanted = {
        *modelling.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
        *modelling.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    }
    found: dict[str, dict[str, str]] = {}
    for part, table in tables.items():
        for model_type, named in table.items():
            name = next(iter(named.values())) if isinstance(named, Mapping) else named
            if isinstance(named, Mapping) and "torchvision" in named:
                name = named["torchvision"]
            if model_type in wanted and isinstance(name, str):
                found.setdefault(model_type, {})[part] = name
    return {model_type: _completed(parts, found) for model_type, parts in found.items()}


def _completed(parts: Mapping[str, str], found: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The classes of a type; those that it does not name are those of another type with its processor."""
    if "image" in parts or "audio" in parts or "processor" not in parts:
        return dict(parts)
    alike = (other for other in found.values() if other.get("processor") == parts["processor"] and "image" in other)
    return {**next(alike, {}), **parts}


def _defaults(part: str, name: str) -> Mapping[str, Any]:
    """The settings of a class by default: of a processor, its parameters and what it passes on to its parts."""
    import transformers

    found = getattr(transformers, name)
    if part != "processor":
        settings = {key: _as_written(value) for key, value in _attributes(found).items()}
        return {key: value for key, value in sorted(settings.items()) if key not in _LOOKS and _plain(value)}
    parameters = inspect.signature(found.__init__).parameters
    own = {key: one.default for key, one in parameters.items() if one.default is not inspect.Parameter.empty}
    passed = {key: getattr(found, key, None) for key in ("images_kwargs", "videos_kwargs", "audio_kwargs")}
    others = {key: value for key, value in vars(found).items() if not key.endswith("_kwargs") and _plain(value)}
    settings = {**others, **own, **{key: _only_plain(value) for key, value in passed.items() if value}}
    return {key: value for key, value in sorted(settings.items()) if _plain(value)}


def _attributes(found: type) -> dict[str, Any]:
    """The attributes of an instance, and those of its class that it does not have of its own."""
    named = {key: value for base in reversed(found.__mro__) for key, value in vars(base).items()} | vars(found())
    return {key: value for key, value in named.items() if not key.startswith("_")}


def _as_written(value: object) -> object:
    """A size as it stands in a file."""
    if type(value).__name__ == "SizeDict":
        return {key: one for key, one in dict(value).items() if one is not None}  # type: ignore[call-overload]
    return value


def _only_plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if _plain(value)}


def _plain(value: object) -> bool:
    """Whether a value is a number, flag or word, or a list or dictionary of these; words without a size are left."""
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(key, str) and _plain(one) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return bool(value) and len(value) <= _LONGEST and all(_plain(one) for one in value)
    return isinstance(value, (bool, int, float, str)) and (not isinstance(value, str) or len(value) <= _LONGEST_WORD)


_LONGEST: Final = 64
_LONGEST_WORD: Final = 40


if __name__ == "__main__":
    sys.exit(main())
