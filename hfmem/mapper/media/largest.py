"""The largest image that a model's processor hands to its tower, and that of a size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from hfmem.mapper.inputs import Largest, LargestInput, LargestVideo
from hfmem.mapper.media import clips
from hfmem.mapper.media.count import Counter, counter
from hfmem.mapper.media.values import Clip, Picture, Tokens, UncountedError

__all__ = ["image_of", "largest_of"]

_SIDE: Final = 9_999_999  # pixels; from such an image, vLLM takes the size with the most features
_LONGEST: Final = 12  # tiles in a row, of one image
_STEPS: Final = 4  # in time; of a limit of all frames, one or two steps leave a rest that three fill


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
        video=_video(rules),
    )


def image_of(
    config: Mapping[str, Any], read: Mapping[str, Mapping[str, Any]], width: int, height: int
) -> LargestInput | None:
    """An image of that size; None where the processor is not known, or takes none."""
    try:
        found = counter(config, read).image(Picture(width=width, height=height))
    except UncountedError:
        return None
    return LargestInput(features=found.count, pieces=found.pieces, patches=found.patches)


def _shapes() -> Iterator[tuple[int, int]]:
    """Widths and heights of images in all the shapes that tiles make."""
    for wide in range(1, _LONGEST + 1):
        for tall in range(1, _LONGEST // wide + 1):
            yield _SIDE * wide, _SIDE * tall


def _image(rules: Counter) -> LargestInput | None:
    """The image with the most features: which shape has them is the processor's own."""
    most = _most(lambda width, height: rules.image(Picture(width=width, height=height)))
    return None if most is None else LargestInput(features=most.count, pieces=most.pieces, patches=most.patches)


def _video(rules: Counter) -> LargestVideo | None:
    """A step of the largest video, where an image's patches tell how many it has."""
    rule, image = rules.rules.video, _image(rules)
    whole = rule is clips.shared
    if image is None or not image.patches or not (whole or rule in (clips.merged, clips.in_time)):
        return None
    frames = rules.ask.video.integer("temporal_patch_size", default=0)
    found = [_frames(rules, frames * steps, image) for steps in (range(1, _STEPS + 1) if whole else (1,)) if frames]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    longest = max(known, key=lambda one: one.features)
    return LargestVideo(step=known[0], longest=longest, frames=frames, whole=whole)


def _frames(rules: Counter, frames: int, image: LargestInput) -> LargestInput | None:
    """The largest video of so many frames, with as many patches for a feature as an image has."""
    most = _most(lambda width, height: rules.video(Clip(frames=frames, width=width, height=height)))
    if most is None:
        return None
    return LargestInput(features=most.count, pieces=1, patches=most.count * image.patches // image.features)


def _most(count: Callable[[int, int], Tokens]) -> Tokens | None:
    """The most features by any shape that the processor takes."""
    found = []
    for width, height in _shapes():
        with suppress(UncountedError):
            found.append(count(width, height))
    return max(found, key=lambda one: one.count, default=None)
