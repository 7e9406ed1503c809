"""Settings of a processor that a server is started with, which win over those of its files.

They stand among the files under the name of the option that has them, which begins with two hyphens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hfmem.mapper.media.values import Keys
from hfmem.options.processing import SCOPES, SIZES

__all__ = ["given_in", "resizes", "with_given"]

_EDGES: Final = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}


def given_in(read: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The settings that are among the files of a processor, by name."""
    return {key: value for name, one in read.items() if name.startswith("--") for key, value in one.items()}


def resizes(given: Mapping[str, Any]) -> bool:
    """Whether settings decide how large images or videos are."""
    scoped = [value for name, value in given.items() if name in SCOPES.values()]
    return any(name in SIZES for settings in (given, *scoped) for name in settings)


def _edges(settings: Keys | Mapping[str, Any]) -> dict[str, Any]:
    """Limits of pixels that have names of their own, by those that they have within `size`."""
    return {edge: settings.get(name) for name, edge in _EDGES.items() if settings.get(name) is not None}


def with_given(keys: Keys, given: Mapping[str, Any], part: str) -> Keys:
    """The settings of a part with those that are given for it (vLLM 0.19.0, qwen2_vl.py, `_get_vision_info`; of
    transformers' classes, `__init__`): limits of pixels have two names, of which the later is within `size`.

    Args:
        keys: those of its files and its class.
        given: by name, those of one part within `images_kwargs` and `videos_kwargs`.
        part: image, video or audio.
    """
    if not given:
        return keys
    plain = {name: value for name, value in given.items() if name not in SCOPES.values()}
    own = {**plain, **given.get(SCOPES.get(part, ""), {})}
    stored = keys.get("size")
    limits = isinstance(stored, Mapping) and set(_EDGES.values()) <= set(stored)
    size = own.get("size")
    if limits and (size is None or isinstance(size, Mapping)):
        size = {**stored, **_edges(keys), **(size or {}), **_edges(own)}
        own |= {name: size[edge] for name, edge in _EDGES.items() if edge in size}
    return Keys(({**own, **({"size": size} if size is not None else {})}, *keys.layers))
