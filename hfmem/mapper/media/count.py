"""From the files of a processor to the tokens of images, videos and sound."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from hfmem.data import text as data_text
from hfmem.mapper.media.given import given_in, resizes, with_given
from hfmem.mapper.media.table import RULES, Rules
from hfmem.mapper.media.values import Ask, Clip, Keys, Picture, Sound, Tokens, UncountedError

__all__ = ["PARTS", "Counter", "counter"]

PARTS: Final = ("image", "video", "audio")
_NESTED: Final = {"image": "image_processor", "video": "video_processor", "audio": "feature_extractor"}
_TYPES: Final = {"image": "image_processor_type", "video": "video_processor_type", "audio": "feature_extractor_type"}
_PASSED: Final = {"image": "images_kwargs", "video": "videos_kwargs", "audio": "audio_kwargs"}
_RENAMED: Final = {
    "LlavaNextVideoImageProcessor": "LlavaNextImageProcessor",
    "Ernie4_5_VL_MoeImageProcessor": "Ernie4_5_VLMoeImageProcessor",
    "Ernie4_5_VLProcessor": "Ernie4_5_VLMoeProcessor",
}
"""Earlier names of classes, as they stand in files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """The rules of a model's processor, with its settings.

    Attributes:
        rules: what it takes.
        ask: its settings.
        processor: its class.
        source: where the settings are from.
        default: whether they are the class's defaults, for want of a file.
    """

    rules: Rules
    ask: Ask = field(hash=False)
    processor: str
    source: str
    default: bool

    def image(self, picture: Picture) -> Tokens:
        """Tokens of one image. Raises `UncountedError` where they cannot be counted."""
        if self.rules.image is None:
            raise UncountedError("it takes no images")
        return self.rules.image(self.ask, picture)

    def video(self, clip: Clip) -> Tokens:
        """Tokens of one video; raises as `image`."""
        if self.rules.video is None:
            raise UncountedError("its processor takes no videos, or their tokens cannot be counted yet")
        return self.rules.video(self.ask, clip)

    def audio(self, sound: Sound) -> Tokens:
        """Tokens of one sound; raises as `image`."""
        if self.rules.audio is None:
            raise UncountedError("it takes no sound")
        return self.rules.audio(self.ask, sound)


def counter(config: Mapping[str, Any], read: Mapping[str, Mapping[str, Any]]) -> Counter:
    """The rules of a model.

    Raises:
        UncountedError: its processor is not known.

    Args:
        config: config.json.
        read: the processor's files by name; those that the repository lacks are absent. Settings under the name of an
            option win over them.
    """
    own = _usual(config)
    name = _named(read, own)
    rules = RULES.get(name)
    if rules is None:
        raise UncountedError(f"the rules of {name} are not known" if name else "it takes no images, videos or sound")
    usual, given = _defaults(name), given_in(read)
    settings, classes = {}, {"processor": name}
    for part in PARTS:
        written = _written(read, part)
        named = _class(written.get(_TYPES[part]))
        classes[part] = named if named in _table()[1] else own.get(part, "")
        passed = usual.get(_PASSED[part])
        stored = passed if isinstance(passed, Mapping) else {}, written, _defaults(classes[part])
        settings[part] = with_given(Keys(stored), given, part)
    processor = read.get("processor_config.json", {})
    return Counter(
        rules=rules,
        ask=Ask(
            image=settings["image"],
            video=settings["video"],
            audio=settings["audio"],
            processor=Keys((processor, usual)),
            config=config,
            classes=classes,
        ),
        processor=name,
        source=" and ".join(sorted(read)) if read else f"the defaults of {name} (transformers 5.24)",
        default=not resizes(given) and all(name.startswith("--") for name in read),
    )


def _usual(config: Mapping[str, Any]) -> Mapping[str, str]:
    """The classes of the model's type."""
    model_type = config.get("model_type")
    return _table()[0].get(model_type, {}) if isinstance(model_type, str) else {}


def _named(read: Mapping[str, Mapping[str, Any]], own: Mapping[str, str]) -> str:
    """The class of the processor: as its files name it, if it is a known one, else the type's."""
    for file in ("processor_config.json", "preprocessor_config.json"):
        name = _class(read.get(file, {}).get("processor_class"))
        if name in RULES:
            return name
    return own.get("processor", "")


def _class(name: object) -> str:
    """A class as it is called now."""
    if not isinstance(name, str):
        return ""
    plain = name.removesuffix("Fast")
    return _RENAMED.get(plain, plain)


def _written(read: Mapping[str, Mapping[str, Any]], part: str) -> Mapping[str, Any]:
    """What the files say of a part: in a file of its own, or within the processor's."""
    nested = read.get("processor_config.json", {}).get(_NESTED[part])
    if isinstance(nested, Mapping):
        return nested
    own = read.get("video_preprocessor_config.json", {}) if part == "video" else {}
    return own or read.get("preprocessor_config.json", {})


def _defaults(name: str) -> Mapping[str, Any]:
    """The default settings of a class."""
    return _table()[1].get(name, {})


@cache
def _table() -> tuple[Mapping[str, Mapping[str, str]], Mapping[str, Mapping[str, Any]]]:
    """The classes of each type, and the defaults of each class (`python -m hfmem.probe.processors`)."""
    lines = data_text("processors.jsonl").splitlines()[1:]
    rows = [json.loads(line) for line in lines]
    types = {row["type"]: row for row in rows if "type" in row}
    return types, {row["class"]: row["defaults"] for row in rows if "class" in row}
