"""Images that keep their shape: scaled to multiples of a patch, of which squares are merged into one token.

Each function of a size takes and returns height and width in pixels, as the class that it stands for does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from hfmem.mapper.media.values import Ask, Keys, Picture, RefusedMediaError, Tokens, UncountedError

__all__ = [
    "covered",
    "ended",
    "fitted",
    "fitted_frames",
    "fuyu",
    "limited_patches",
    "lined",
    "merged",
    "nearest_shape",
    "packed",
    "padded_frames",
    "pixel_limits",
    "pixtral",
    "pooled",
    "reduced",
    "shuffled",
    "soft",
    "soft_size",
]

Size = tuple[int, int]

_MOST_ELONGATED: Final = 200  # height to width, or width to height (smart_resize)


def _check_shape(height: int, width: int) -> None:
    if max(height, width) / min(height, width) > _MOST_ELONGATED:
        raise RefusedMediaError(
            f"its processor refuses images that are more than {_MOST_ELONGATED} times as long as wide"
        )


def fitted(height: int, width: int, factor: int, least: int, most: int) -> Size:
    """Multiples of `factor` near a size, with between `least` and `most` pixels (`smart_resize` of Qwen2-VL)."""
    _check_shape(height, width)
    tall, wide = round(height / factor) * factor, round(width / factor) * factor
    if tall * wide > most:
        beta = math.sqrt(height * width / most)
        tall = max(factor, math.floor(height / beta / factor) * factor)
        wide = max(factor, math.floor(width / beta / factor) * factor)
    elif tall * wide < least:
        beta = math.sqrt(least / (height * width))
        tall, wide = math.ceil(height * beta / factor) * factor, math.ceil(width * beta / factor) * factor
    return tall, wide


def fitted_frames(frames: int, size: Size, factor: int, temporal: int, limits: Size) -> Size:
    """The same where the limits are of all frames together (`smart_resize` of GLM-4V)."""
    height, width = size
    if frames < temporal:
        raise RefusedMediaError(f"its processor refuses videos of less than {temporal} frames")
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    _check_shape(height, width)
    least, most = limits
    tall, wide = round(height / factor) * factor, round(width / factor) * factor
    deep = round(frames / temporal) * temporal
    if deep * tall * wide > most:
        beta = math.sqrt(frames * height * width / most)
        tall = max(factor, math.floor(height / beta / factor) * factor)
        wide = max(factor, math.floor(width / beta / factor) * factor)
    elif deep * tall * wide < least:
        beta = math.sqrt(least / (frames * height * width))
        tall, wide = math.ceil(height * beta / factor) * factor, math.ceil(width * beta / factor) * factor
    return tall, wide


def pixel_limits(keys: Keys) -> Size:
    """The least and the most pixels: `min_pixels` and `max_pixels`, in older files and in `size`."""
    return _limit(keys, "min_pixels", "shortest_edge"), _limit(keys, "max_pixels", "longest_edge")


def _limit(keys: Keys, name: str, edge: str) -> int:
    if keys.get(name) is not None:
        return keys.size(name)
    found = keys.within("size", edge, name)
    if found is None:
        raise UncountedError("the processor's files lack the least and most pixels of 'size'")
    return found


def _patch(keys: Keys) -> tuple[int, int]:
    """Pixels of a patch's side, and patches of a merged square's side."""
    return keys.size("patch_size"), keys.size("merge_size")


def _by_pixels(keys: Keys, size: Size) -> Size:
    patch, merge = _patch(keys)
    return fitted(*size, patch * merge, *pixel_limits(keys))


def _by_pixels_from_one_patch(keys: Keys, size: Size) -> Size:
    """PaddleOCR-VL: sides shorter than a token are first made as long as one."""
    patch, merge = _patch(keys)
    height, width, factor = *size, patch * merge
    if height < factor:
        height, width = factor, round(width * factor / height)
    if width < factor:
        height, width = round(height * factor / width), factor
    return fitted(height, width, factor, *pixel_limits(keys))


def _by_frames(keys: Keys, size: Size) -> Size:
    """GLM-4V: an image counts as one temporal patch."""
    patch, merge = _patch(keys)
    temporal = keys.size("temporal_patch_size")
    factor = patch * merge * keys.size("patch_expand_factor", default=1)
    return fitted_frames(temporal, size, factor, temporal, pixel_limits(keys))


def _aligned(value: float, factor: int) -> int:
    return math.ceil(value / factor) * factor


def _by_tokens(keys: Keys, size: Size) -> Size:
    """GLM-5-Next: an image counts as one temporal patch."""
    return padded_frames(keys, keys.size("temporal_patch_size"), size)


def padded_frames(keys: Keys, frames: int, size: Size) -> Size:
    """Padded to whole tokens, and scaled until no more than the most tokens are left (GLM-5-Next)."""
    patch, merge = _patch(keys)
    height, width = size
    factor, temporal = patch * merge * keys.size("patch_expand_factor", default=1), keys.size("temporal_patch_size")
    each = temporal * factor**2
    least, most = keys.size("min_image_tokens") * each, keys.size("max_image_tokens") * each
    deep = max(temporal, round(frames / temporal) * temporal)
    tall, wide = _aligned(height, factor), _aligned(width, factor)
    if deep * tall * wide < least:
        scale = math.sqrt(least / (frames * height * width))
        tall = _aligned(max(1, math.ceil(height * scale)), factor)
        wide = _aligned(max(1, math.ceil(width * scale)), factor)
    return (tall, wide) if deep * tall * wide <= most else _largest_within(size, factor, most // deep)


def _largest_within(size: Size, factor: int, most: int) -> Size:
    """The largest padded size of the same shape with at most so many pixels."""
    height, width = size
    low, high, best = 1, height, (factor, factor)
    while low <= high:
        middle = (low + high) // 2
        tall, wide = _aligned(middle, factor), _aligned(max(1, math.floor(width * middle / height)), factor)
        if tall * wide <= most:
            best, low = (tall, wide), middle + 1
        else:
            high = middle - 1
    return best


def limited_patches(keys: Keys, size: Size) -> Size:
    """Kimi-K2.5: scaled down to the most patches, in all and on a side, then padded to whole tokens."""
    patch, merge = _patch(keys)
    height, width = size
    side = keys.within("size", "max_height")
    if side is None:
        raise UncountedError("the processor's files lack 'max_height' of 'size'")
    patches = max(1.0, height // patch) * max(1.0, width // patch)
    scale = min(1.0, math.sqrt(keys.size("max_patches") / patches), side * patch / height, side * patch / width)
    tall, wide = (min(max(1, int(one * scale)), side * patch) for one in size)
    return _aligned(tall, patch * merge), _aligned(wide, patch * merge)


def nearest_shape(keys: Keys, size: Size) -> Size:
    """Muse Glimmer: of the grids around the ideal one, that with the nearest shape."""
    patch, merge = _patch(keys)
    height, width = size
    factor, most = patch * merge, keys.size("max_image_tokens", "max_video_frame_tokens")
    rows, columns = height / factor, width / factor
    ratio = columns / rows
    if rows * columns > most:
        rows = (most / ratio) ** 0.5
        columns = rows * ratio
    around = list(
        set(itertools.product([math.floor(rows), math.ceil(rows)], [math.floor(columns), math.ceil(columns)]))
    )
    grids = [(one, other) for one, other in around if one >= 1 and other >= 1 and one * other <= most]
    grids = grids or [(max(1, round(rows)), max(1, round(columns)))]
    rows, columns = min(grids, key=lambda grid: abs(grid[0] / grid[1] - height / width))
    return int(rows) * factor, int(columns) * factor


_SIZES: Final[Mapping[str, Callable[[Keys, Size], Size]]] = {
    "Cosmos3EdgeImageProcessor": _by_frames,
    "Glm46VImageProcessor": _by_frames,
    "Glm4vImageProcessor": _by_frames,
    "Glm5NextImageProcessor": _by_tokens,
    "GlmgaImageProcessor": _by_frames,
    "Kimi_K25ImageProcessor": limited_patches,
    "MuseGlimmerImageProcessor": nearest_shape,
    "PaddleOCRVLImageProcessor": _by_pixels_from_one_patch,
}
"""How classes scale an image; all others as Qwen2-VL's."""


def _grid(ask: Ask, picture: Picture) -> tuple[int, int, int, int]:
    """Rows and columns of merged patches, and pixels of an image once it is scaled."""
    keys = ask.image
    patch, merge = _patch(keys)
    size = (picture.height, picture.width)
    tall, wide = _SIZES.get(ask.classes.get("image", ""), _by_pixels)(keys, size)
    return tall // patch // merge, wide // patch // merge, tall, wide


def _told(wide: int, tall: int, token: int, columns: int, rows: int) -> str:
    return f"scaled to {wide:,} × {tall:,} pixels, {columns} × {rows} tokens of {token} × {token} pixels"


def merged(ask: Ask, picture: Picture) -> Tokens:
    """One token for each square of merged patches (Qwen2-VL and its relatives)."""
    patch, merge = _patch(ask.image)
    rows, columns, tall, wide = _grid(ask, picture)
    how = _told(wide, tall, patch * merge, columns, rows)
    return Tokens(count=rows * columns, how=how, pieces=1, patches=rows * columns * merge**2)


def lined(ask: Ask, picture: Picture) -> Tokens:
    """The same, with a further token at the end of each row (HY-V4-VL)."""
    patch, merge = _patch(ask.image)
    rows, columns, tall, wide = _grid(ask, picture)
    how = f"{_told(wide, tall, patch * merge, columns, rows)}, and one at the end of each row"
    return Tokens(count=rows * (columns + 1), how=how, pieces=1, patches=rows * columns * merge**2)


def ended(ask: Ask, picture: Picture) -> Tokens:
    """The same, with a token before and one after the image (HunYuan-VL)."""
    found = lined(ask, picture)
    more = 2 if ask.processor.flag("cat_extra_token", default=True) else 0
    return replace(found, count=found.count + more, how=f"{found.how}, and {more} around it")


def _by_factor(ask: Ask, picture: Picture) -> tuple[int, int, str]:
    keys = ask.image
    factor = keys.size("spatial_factor")
    tall, wide = fitted(picture.height, picture.width, factor, *pixel_limits(keys))
    rows, columns = tall // factor, wide // factor
    return rows, columns, _told(wide, tall, factor, columns, rows)


def shuffled(ask: Ask, picture: Picture) -> Tokens:
    """Discrete codes of an image (Apertus 1.5)."""
    rows, columns, how = _by_factor(ask, picture)
    return Tokens(count=rows * columns, how=how)


_EMU_DOWN: Final = 8  # pixels of a code's side (processing_emu3.py)


def reduced(ask: Ask, picture: Picture) -> Tokens:
    """Discrete codes, with one more at the end of each row (Emu3)."""
    keys = ask.image
    tall, wide = fitted(picture.height, picture.width, keys.size("spatial_factor"), *pixel_limits(keys))
    rows, columns = tall // _EMU_DOWN, wide // _EMU_DOWN
    how = f"{_told(wide, tall, _EMU_DOWN, columns, rows)}, and one at the end of each row"
    return Tokens(count=rows * (columns + 1), how=how)


def pixtral(ask: Ask, picture: Picture) -> Tokens:
    """Scaled down to the longest edge, and up to whole patches (Pixtral, Mistral 3, LightOnOCR)."""
    keys = ask.image
    longest = keys.within("size", "longest_edge")
    most = (longest, longest) if longest else keys.pair("size")
    token = ask.processor.size("patch_size") * ask.processor.size("spatial_merge_size")
    # the processor passes its own merged patch to the class of images; LightOnOCR's leaves that class its own
    patch = keys.pair("patch_size") if ask.classes.get("processor") == "LightOnOcrProcessor" else (token, token)
    height, width = picture.height, picture.width
    ratio = max(height / most[0], width / most[1])
    if ratio > 1:
        height, width = math.floor(height / ratio), math.floor(width / ratio)
    tall, wide = ((one - 1) // side * side + side for one, side in zip((height, width), patch, strict=True))
    rows, columns = tall // token, wide // token
    side = ask.processor.size("patch_size")
    patches = (tall // side) * (wide // side)
    return Tokens(count=rows * columns, how=_told(wide, tall, token, columns, rows), pieces=1, patches=patches)


def soft(ask: Ask, picture: Picture) -> Tokens:
    """Scaled to as many pooled patches as are allowed, small images too (Gemma 4)."""
    tall, wide, pooled_side = soft_size(ask.image, picture.height, picture.width)
    rows, columns = tall // pooled_side, wide // pooled_side
    how = _told(wide, tall, pooled_side, columns, rows)
    # each image is padded to the most patches (image_processing_gemma4.py, pad_along_first_dim)
    most = ask.image.size("max_soft_tokens") * ask.image.size("pooling_kernel_size") ** 2
    return Tokens(count=rows * columns, how=how, pieces=1, patches=most)


def soft_size(keys: Keys, height: int, width: int) -> tuple[int, int, int]:
    """Height and width in pixels once scaled, and the side of a token."""
    patch, pool = keys.size("patch_size"), keys.size("pooling_kernel_size")
    most, side = keys.size("max_soft_tokens") * pool**2, pool * patch
    factor = math.sqrt(most * patch**2 / (height * width))
    tall, wide = (math.floor(factor * one / side) * side for one in (height, width))
    if tall == 0 and wide == 0:
        raise RefusedMediaError("its processor refuses images that would be scaled to nothing")
    longest = most // pool**2 * side
    if tall == 0:
        tall, wide = side, min(math.floor(width / height) * side, longest)
    elif wide == 0:
        tall, wide = min(math.floor(height / width) * side, longest), side
    return tall, wide, side


def pooled(ask: Ask, picture: Picture) -> Tokens:
    """Scaled between the least and most patches, in whole merged squares (Nemotron-H Omni)."""
    keys = ask.image
    patch, merge = keys.size("patch_size"), round(1 / keys.number("downsample_ratio"))
    least = keys.size("min_num_patches")
    most = max((keys.size("max_model_len") - 4) * merge**2, least * picture.of)
    most = max(min(most, keys.integer("max_num_patches", default=0) or most), least)
    rows, columns = round(picture.height / patch + 0.5), round(picture.width / patch + 0.5)
    factor = min(math.sqrt(most / (rows * columns)), 1.0)
    rows, columns = math.floor(factor * rows), math.floor(factor * columns)
    if rows < 1 or columns < 1:
        raise RefusedMediaError("its processor refuses images of this shape")
    if most > least and rows * columns < least:
        factor = math.sqrt(least / (rows * columns))
        rows, columns = math.ceil(factor * rows), math.ceil(factor * columns)
    rows = _whole_squares(rows, columns, merge, most)
    columns = _whole_squares(columns, rows, merge, most)
    how = f"scaled to {columns} × {rows} patches of {patch} × {patch} pixels, {merge} × {merge} of them in a token"
    return Tokens(count=rows * columns // merge**2, how=how)


def _whole_squares(side: int, other: int, merge: int, most: int) -> int:
    """A side in whole merged squares: up if the patches allow it, else down."""
    left = side % merge
    if not left:
        return side
    return side + merge - left if (side + merge - left) * other <= most else max(merge, side - left)


def packed(ask: Ask, picture: Picture) -> Tokens:
    """Whole patches of the image as it is, with a column more than fits (Inkling)."""
    keys = ask.image
    side = keys.size("size")
    height, width = picture.height, picture.width
    if keys.get("rescale_image_frac") is not None:
        long = max(height, width)
        target = long * keys.number("rescale_image_frac")
        if keys.get("rescale_image_max_upscaled_long_edge") is not None:
            target = min(target, max(keys.size("rescale_image_max_upscaled_long_edge"), long))
        if target != long:
            height, width = (math.floor(one * (target / long) + 0.5) for one in (height, width))
    rows, columns = (height + side - 1) // side, width // side + 1
    how = f"{columns} × {rows} patches of {side} × {side} pixels"
    return Tokens(count=rows * columns, how=how)


def covered(ask: Ask, picture: Picture) -> Tokens:
    """Whole patches that cover the image as it is (Inkling 2)."""
    tall, wide = ask.image.pair("size")
    rows, columns = math.ceil(picture.height / tall), math.ceil(picture.width / wide)
    return Tokens(count=rows * columns, how=f"{columns} × {rows} patches of {wide} × {tall} pixels")


def fuyu(ask: Ask, picture: Picture) -> Tokens:
    """Scaled down to the largest size, then in whole patches."""
    most, patch = ask.image.pair("size"), ask.image.pair("patch_size")
    height, width = picture.height, picture.width
    if width > most[1] or height > most[0]:
        scale = min(most[0] / height, most[1] / width)
        height, width = int(height * scale), int(width * scale)
    rows, columns = (
        min(limit, math.ceil(one / side) * side) // side
        for one, limit, side in zip((height, width), most, patch, strict=True)
    )
    how = f"scaled to {width:,} × {height:,} pixels, {columns} × {rows} patches of {patch[1]} × {patch[0]} pixels"
    return Tokens(count=rows * columns, how=how)
