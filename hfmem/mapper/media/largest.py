"""The largest image that a model's processor hands to its tower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hfmem.mapper.media.count import Counter, counter
from hfmem.mapper.media.values import Picture, UncountedError
from hfmem.mapper.values import Largest, LargestInput

__all__ = ["largest_of"]

_SIDE: Final = 9_999_999  # pixels; from such an image, vLLM takes the size with the most features


def largest_of(config: Mapping[str, Any], read: Mapping[str, Mapping[str, Any]]) -> Largest | None:
    """The largest input of a model; None where its processor is not known.

    Args:
        config: config.json.
        read: the processor's files by name.
    """
    try:
        rules = counter(config, read)
    except UncountedError:
        return None
    found = {"image": rules.rules.image, "video": rules.rules.video, "audio": rules.rules.audio}
    return Largest(
        kinds=tuple(kind for kind, rule in found.items() if rule is not None),
        image=_image(rules),
        source=rules.source,
        default=rules.default,
    )


def _image(rules: Counter) -> LargestInput | None:
    try:
        found = rules.image(Picture(width=_SIDE, height=_SIDE))
    except UncountedError:
        return None
    return LargestInput(features=found.count, pieces=found.pieces, patches=found.patches)
