"""Images at the best of several resolutions, in tiles whose padding is taken off again, and as a whole (LLaVA-NeXT)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hfmem.mapper.media.fixed import patch_of, prepared_size
from hfmem.mapper.media.values import Ask, Keys, Picture, Tokens, UncountedError

__all__ = ["best_resolution", "limited", "unpadded"]


def best_resolution(picture: Picture, resolutions: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The height and width that keep most pixels of an image, and waste least."""
    best, kept, wasted = (0, 0), 0, math.inf
    for height, width in resolutions:
        scale = min(width / picture.width, height / picture.height)
        scaled = int(picture.width * scale) * int(picture.height * scale)
        effective = min(scaled, picture.width * picture.height)
        waste = height * width - effective
        if effective > kept or (effective == kept and waste < wasted):
            best, kept, wasted = (height, width), effective, waste
    return best


def _resolutions(keys: Keys) -> list[tuple[int, int]]:
    found = keys.get("image_grid_pinpoints")
    pairs = found if isinstance(found, (list, tuple)) else ()
    return [Keys(({"one": pair},)).pair("one") for pair in pairs]


def _without_padding(picture: Picture, tall: int, wide: int) -> tuple[int, int]:
    """Rows and columns of a padded grid without those that are only padding."""
    if picture.width / picture.height > wide / tall:
        used = int(round(picture.height * (wide / picture.width), 7))
        return tall - (tall - used) // 2 * 2, wide
    used = int(round(picture.width * (tall / picture.height), 7))
    return tall, wide - (wide - used) // 2 * 2


def _grid(ask: Ask, picture: Picture, tile: tuple[int, int]) -> tuple[int, int]:
    """Tiles over the height and the width."""
    height, width = best_resolution(picture, _resolutions(ask.image))
    if not height:
        raise UncountedError("the processor's files lack 'image_grid_pinpoints'")
    return height // tile[0], width // tile[1]


def unpadded(ask: Ask, picture: Picture) -> Tokens:
    """The whole image, and tiles without padding, with one token at the end of each row."""
    tile, patch = prepared_size(ask.image, picture), patch_of(ask)
    rows, columns = tile[0] // patch, tile[1] // patch
    if ask.processor.get("downsample_rate") is not None:
        rate = ask.processor.number("downsample_rate")
        rows, columns = int(rows * rate + 1e-9), int(columns * rate + 1e-9)
    down, across = _grid(ask, picture, tile)
    tall, wide = _without_padding(picture, rows * down, columns * across)
    more = ask.processor.integer("num_additional_image_tokens", default=0)
    less = 1 if ask.processor.get("vision_feature_select_strategy") == "default" else 0
    base = rows * columns + more - less
    how = f"{base} of the whole image + {tall} rows × ({wide} + 1) of {across} × {down} tiles without padding"
    return Tokens(count=base + tall * (wide + 1), how=how, pieces=1 + down * across)


def limited(ask: Ask, picture: Picture) -> Tokens:
    """The same with a limit on the patches, beyond which they are scaled down; several images have no tiles
    (LLaVA-OneVision)."""
    side = ask.vision().size("image_size", default=1) // ask.vision().size("patch_size", default=1)
    each = ask.processor.size("num_image_tokens", default=side * side)
    less = 1 if ask.processor.get("vision_feature_select_strategy") == "default" else 0
    if picture.of > 1:
        how = f"{each} + {1 - less} for each of several images of any size"
        return Tokens(count=each + 1 - less, how=how, pieces=1)
    rows = int(math.sqrt(each))
    down, across = _grid(ask, picture, prepared_size(ask.image, picture))
    tall, wide = _without_padding(picture, rows * down, rows * across)
    ratio = math.sqrt(tall * wide / (_most_tiles(ask) * rows**2))
    how = f"{each - less} of the whole image + rows × (columns + 1) of {across} × {down} tiles without padding"
    if ratio > 1.1:
        tall, wide = int(tall // ratio), int(wide // ratio)
        how += ", scaled down to the limit"
    count = each - less + tall * (wide + 1)
    return Tokens(count=count, how=f"{how}: {tall} × ({wide} + 1)", pieces=1 + down * across)


def _most_tiles(ask: Ask) -> int:
    """The limit in tiles, as in `anyres_max_9`."""
    found = ask.processor.get("vision_aspect_ratio")
    digits = found.removeprefix("anyres_max_") if isinstance(found, str) else ""
    if not digits.isdigit() or not 0 < int(digits) < 10**6:
        raise UncountedError("in the processor's files, 'vision_aspect_ratio' has no limit")
    return int(digits)
