"""Images that become the same number of tokens at any size."""

from __future__ import annotations

import math
from collections.abc import Callable

from hfmem.mapper.media.values import Ask, Keys, Picture, Tokens, UncountedError

__all__ = ["cropped", "crossed", "from_config", "listed", "single", "split_in_five", "squared"]


def single(*names: str) -> Callable[[Ask, Picture], Tokens]:
    """A number of the processor's own settings, or of its image class's."""

    def rule(ask: Ask, picture: Picture) -> Tokens:  # noqa: ARG001 - a `PictureRule`
        count = Keys((*ask.processor.layers, *ask.image.layers)).size(*names)
        return Tokens(count=count, how=f"{count} for an image of any size ('{names[0]}')", pieces=1)

    return rule


def from_config(*names: str) -> Callable[[Ask, Picture], Tokens]:
    """A number of the processor's settings, else of config.json."""

    def rule(ask: Ask, picture: Picture) -> Tokens:  # noqa: ARG001 - a `PictureRule`
        count = Keys((*ask.processor.layers, ask.config)).size(*names)
        return Tokens(count=count, how=f"{count} for an image of any size ('{names[0]}')", pieces=1)

    return rule


def squared(ask: Ask, picture: Picture) -> Tokens:
    """Patches of one square image, with the tower's class token where it is kept (LLaVA)."""
    tall, wide = prepared_size(ask.image, picture)
    patch = patch_of(ask)
    more = ask.processor.integer("num_additional_image_tokens", default=0)
    less = 1 if ask.processor.get("vision_feature_select_strategy") == "default" else 0
    rows, columns = tall // patch, wide // patch
    how = f"scaled and cropped to {wide} × {tall} pixels, {columns} × {rows} patches of {patch} × {patch} pixels"
    extra = more - less
    return Tokens(count=rows * columns + extra, how=how + (f", and {extra}" if extra else ""), pieces=1)


def patch_of(ask: Ask) -> int:
    """The side of a patch: the processor's, else the tower's in config.json."""
    return Keys((*ask.processor.layers, *ask.vision().layers)).size("patch_size")


def prepared_size(keys: Keys, picture: Picture) -> tuple[int, int]:
    """Height and width of an image that is scaled to `size`, then cropped if that is asked for."""
    if keys.flag("do_center_crop") and keys.get("crop_size") is not None:
        return keys.pair("crop_size")
    shortest = keys.within("size", "shortest_edge")
    if shortest is None or keys.flag("do_pad"):
        return keys.pair("size")
    short, long = sorted((picture.height, picture.width))
    scaled = int(shortest * long / short)
    return (shortest, scaled) if picture.height <= picture.width else (scaled, shortest)


def listed(ask: Ask, picture: Picture) -> Tokens:
    """A number by the side of the square that an image is padded to (Aria)."""
    side = ask.image.size("max_image_size")
    table = ask.processor.get("size_conversion")
    count = (
        Keys((table,)).integer(str(side), default=0) if isinstance(table, dict) else {490: 128, 980: 256}.get(side, 0)
    )
    if not count:
        raise UncountedError(f"the processor's files have no tokens for images of {side} pixels")
    # its own processor counts the crops of the whole prompt for each image, and asks for one crop unless told otherwise
    crops = 1 if not ask.image.flag("split_image") else picture.of
    return Tokens(count=count * crops, how=f"{count} for an image of any size, padded to {side} × {side} pixels")


def split_in_five(ask: Ask, picture: Picture) -> Tokens:  # noqa: ARG001 - a `PictureRule`
    """A number of latents, for the image and for its quarters where it is split (Idefics2)."""
    count = ask.processor.size("image_seq_len")
    parts = 5 if ask.image.flag("do_image_splitting") else 1
    return Tokens(
        count=count * parts, how=f"{count} for an image of any size" + (f" × {parts} parts" if parts > 1 else "")
    )


def cropped(ask: Ask, picture: Picture) -> Tokens:
    """A number for the image, and as many for each crop of a long one where that is asked for (Gemma 3)."""
    count, crops = ask.processor.size("image_seq_length"), 0
    if ask.image.flag("do_pan_and_scan"):
        crops = _pan_and_scan(ask.image, picture)
    told = f" × (1 image + {crops} crops)" if crops else " for an image of any size"
    return Tokens(count=count * (1 + crops), how=f"{count}{told}", pieces=1 + crops)


def _pan_and_scan(keys: Keys, picture: Picture) -> int:
    short, long = sorted((picture.height, picture.width))
    least = keys.size("pan_and_scan_min_crop_size")
    if long / short < keys.number("pan_and_scan_min_ratio_to_activate"):
        return 0
    count = min(math.floor(long / least), math.floor(long / short + 0.5))
    count = min(keys.size("pan_and_scan_max_num_crops"), max(2, count))
    return 0 if min(math.ceil(long / count), short) < least else count


def crossed(ask: Ask, picture: Picture) -> Tokens:  # noqa: ARG001 - a `PictureRule`
    """Tokens that the decoder cross-attends to: every image is padded to the most tiles (Llama 3.2 Vision)."""
    vision = ask.vision()
    tiles, side = ask.image.size("max_image_tiles"), vision.size("image_size", default=ask.image.size("size"))
    patch = vision.size("patch_size", default=14)
    each = (side // patch) ** 2 + 1
    return Tokens(count=tiles * each, how=f"{tiles} tiles × {each:,} ({side // patch}² patches of {patch} pixels + 1)")
