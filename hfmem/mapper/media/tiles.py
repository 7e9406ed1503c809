"""Images cut into tiles of one size, often with the whole image as one more (a thumbnail).

A grid is written as columns and rows, unless its function says otherwise.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from itertools import product
from typing import Final

from hfmem.mapper.media.values import Ask, Keys, Picture, RefusedMediaError, Tokens, UncountedError

__all__ = [
    "canvas",
    "documents",
    "grids",
    "halves",
    "masked",
    "ocr",
    "overlapped",
    "pages",
    "scaled_tiles",
    "sliced",
    "smart_tiles",
    "tiled",
    "windows",
]

Grid = tuple[int, int]

_MOST: Final = 512  # tiles of an image that are searched; real settings have up to 64


def _limit(count: int) -> int:
    if count > _MOST:
        raise UncountedError("the processor's files allow an impossible number of tiles")
    return count


def grids(least: int, most: int) -> list[Grid]:
    """Every grid of `least` to `most` tiles, by their number."""
    sides = range(1, _limit(most) + 1)
    found = [(columns, rows) for columns in sides for rows in sides if least <= columns * rows <= most]
    return sorted(found, key=lambda grid: grid[0] * grid[1])


def nearest(picture: Picture, tile: Grid, candidates: list[Grid]) -> Grid:
    """The grid whose shape is nearest to the image's; of equal ones the larger, if half of it would be filled.

    Args:
        picture: the image.
        tile: height and width of a tile in pixels.
        candidates: grids, by their number of tiles.
    """
    shape, area = picture.width / picture.height, picture.width * picture.height
    best, least = (1, 1), math.inf
    for grid in candidates:
        apart = abs(shape - grid[0] / grid[1])
        if apart < least:
            best, least = grid, apart
        elif apart == least and area > 0.5 * tile[0] * tile[1] * grid[0] * grid[1]:
            best = grid
    return best


def _product(each: int, grid: Grid, whole: int) -> Tokens:
    """Tokens of a grid and of the whole image."""
    tiles = grid[0] * grid[1]
    told = f"{grid[0]} × {grid[1]} tiles" + (f" + {whole} of the whole image" if whole else "")
    return Tokens(count=each * (tiles + whole), how=f"{each} × ({told})", pieces=tiles + whole)


def tiled(each: Callable[[Ask], int], choose: Callable[[Ask, Picture], Grid]) -> Callable[[Ask, Picture], Tokens]:
    """Tiles, and the whole image if there are several of them (InternVL and its relatives).

    Args:
        each: tokens of a tile.
        choose: the grid.
    """

    def rule(ask: Ask, picture: Picture) -> Tokens:
        grid = choose(ask, picture) if ask.image.flag("crop_to_patches") else (1, 1)
        return _product(each(ask), grid, int(grid != (1, 1)))

    return rule


def _tile_limits(keys: Keys) -> tuple[int, int]:
    return keys.size("min_patches"), keys.size("max_patches")


def canvas(ask: Ask, picture: Picture) -> Grid:
    """The grid of the nearest shape (GOT-OCR 2, InternVL, Aya Vision)."""
    return nearest(picture, ask.image.pair("size"), grids(*_tile_limits(ask.image)))


def scaled_tiles(ask: Ask, picture: Picture) -> Grid:
    """The grid that takes the least scaling up; without one, the least scaling down (Cohere 2 Vision)."""
    side = ask.image.size("size")
    candidates = grids(1, _tile_limits(ask.image)[1])
    scales = [min(columns * side / picture.width, rows * side / picture.height) for columns, rows in candidates]
    if all(scale < 1 for scale in scales):
        return candidates[scales.index(max(scales))]
    up = [scale if scale >= 1 else math.inf for scale in scales]
    return candidates[up.index(min(up))]


def _covering(picture: Picture, side: int, most: int) -> Grid:
    """The smallest grid whose tiles cover nine tenths of the image (Ovis2); rows and columns."""
    covers = [(grid, _cover(picture, grid, side)) for grid in grids(1, most)]
    enough = [(grid, cover) for grid, cover in covers if cover > _COVERED]
    if enough:
        return min(enough, key=lambda one: (one[0][0] * one[0][1], -one[1]))[0]
    return min(covers, key=lambda one: (-one[1], one[0][0] * one[0][1]))[0]


_COVERED: Final = 0.9


def _cover(picture: Picture, grid: Grid, side: int) -> float:
    rows, columns = grid
    tall, wide = picture.height // rows, picture.width // columns
    total = 0.0
    for row, column in product(range(rows), range(columns)):
        height = picture.height - row * tall if row == rows - 1 else tall
        width = picture.width - column * wide if column == columns - 1 else wide
        long, short = max(height, width), min(height, width)
        total += side * (short / long * side) if long > side else long * short
    return total / (picture.width * picture.height)


def covering(ask: Ask, picture: Picture) -> Grid:
    """The grid of Ovis2."""
    if ask.image.flag("use_covering_area_grid", default=True):
        return _covering(picture, ask.image.pair("size")[0], _tile_limits(ask.image)[1])
    return canvas(ask, picture)


def _llama_grids(most: int) -> list[Grid]:
    """Rows and columns of every grid, in the order in which Llama 4 lists them."""
    by_shape: dict[float, list[Grid]] = {}
    for tiles in range(_limit(most), 0, -1):
        for rows in (one for one in range(1, tiles + 1) if tiles % one == 0):
            by_shape.setdefault(rows / (tiles // rows), []).append((rows, tiles // rows))
    return [grid for alike in by_shape.values() for grid in alike]


def _single(value: float) -> float:
    """A number rounded to single precision, in which PyTorch divides integers."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def halves(ask: Ask, picture: Picture) -> Tokens:
    """Llama 4: the grid with the least scaling, of pixel-shuffled patches."""
    side, patch = ask.image.size("size"), ask.processor.size("patch_size")
    down = round(1 / ask.processor.number("pixel_shuffle_ratio") ** 2)
    each = int((side // patch) ** 2 // down)
    candidates = _llama_grids(ask.image.size("max_patches"))
    scales = [
        min(_single(rows * side / picture.height), _single(columns * side / picture.width))
        for rows, columns in candidates
    ]
    up = [scale for scale in scales if scale >= 1]
    largest = not up or ask.image.flag("resize_to_max_canvas")
    chosen = max(up or scales) if largest else min(up)
    fitting = [grid for grid, scale in zip(candidates, scales, strict=True) if scale == chosen]
    rows, columns = min(fitting, key=lambda grid: grid[0] * grid[1])
    return _product(each, (columns, rows), int(rows * columns > 1))


def _longest(height: int, width: int, most: int) -> tuple[int, int]:
    """Scaled to a longest side, the other one made even (Idefics3)."""
    shape = width / height
    if width >= height:
        width, height = most, int(most / shape)
        height += height % 2
    else:
        height, width = most, int(most * shape)
        width += width % 2
    return max(height, 1), max(width, 1)


def _at_most(height: int, width: int, most: int) -> tuple[int, int]:
    shape = width / height
    if width >= height and width > most:
        width, height = most, int(most / shape)
    elif height > width and height > most:
        height, width = most, int(most * shape)
    return max(height, 1), max(width, 1)


_IDEFICS_MOST: Final = 4096  # pixels of a side (MAX_IMAGE_SIZE)


def pages(ask: Ask, picture: Picture) -> Tokens:
    """Idefics3 and SmolVLM: scaled to a longest side, small images too, then cut into tiles."""
    keys, each = ask.image, ask.processor.size("image_seq_len")
    tile = keys.within("max_image_size", "longest_edge")
    if tile is None:
        raise UncountedError("the processor's files lack 'max_image_size'")
    if not keys.flag("do_image_splitting", default=True):
        return _product(each, (1, 1), 0)
    height, width = picture.height, picture.width
    if keys.flag("do_resize", default=True):
        longest = keys.within("size", "longest_edge")
        height, width = (
            keys.pair("size") if longest is None else _at_most(*_longest(height, width, longest), _IDEFICS_MOST)
        )
    shape = width / height
    if width >= height:
        width = math.ceil(width / tile) * tile
        height = math.ceil(int(width / shape) / tile) * tile
    else:
        height = math.ceil(height / tile) * tile
        width = math.ceil(int(height * shape) / tile) * tile
    if height <= tile and width <= tile:
        return _product(each, (1, 1), 0)
    return _product(each, (math.ceil(width / tile), math.ceil(height / tile)), 1)


def documents(ask: Ask, picture: Picture) -> Tokens:
    """Granite Docling: tiles of a page, more for dense pages where the settings ask for it."""
    keys, each = ask.image, ask.processor.size("image_seq_len")
    least, most = _tile_limits(keys)
    if not keys.flag("crop_to_patches", default=True) or most <= 1:
        return _product(each, (1, 1), 0)
    tile = keys.pair("size")
    if keys.integer("dense_max_patches", default=0) and keys.get("dense_max_scale", "dense_min_aspect"):
        raise UncountedError("the processor's files ask for more tiles on dense pages")
    sixteen = [grid for grid in grids(least, most) if max(grid) <= 16]
    grid = nearest(picture, tile, sixteen)
    return _product(each, grid, int(grid[0] * grid[1] > 1))


def ocr(ask: Ask, picture: Picture) -> Tokens:
    """DeepSeek-OCR 2: a global view, tiles of larger images, and one token between the two."""
    keys = ask.image
    patch, down, tile = (
        ask.processor.size("patch_size"),
        ask.processor.number("downsample_ratio"),
        keys.size("tile_size"),
    )
    whole = math.ceil(keys.pair("size")[0] / patch / down) ** 2
    each = math.ceil(tile / patch / down) ** 2
    crops = 0
    if keys.flag("crop_to_patches", default=True) and max(picture.height, picture.width) > tile:
        columns, rows = nearest(picture, (tile, tile), grids(*_tile_limits(keys)))
        crops = columns * rows
    return Tokens(count=whole + each * crops + 1, how=f"{whole} of the whole image + {crops} tiles × {each} + 1")


def rows_of_tiles(ask: Ask, picture: Picture) -> Tokens:
    """Unlimited-OCR: the same, with one token at the end of each row."""
    keys = ask.image
    patch, down, tile = (
        ask.processor.size("patch_size"),
        ask.processor.number("downsample_ratio"),
        keys.size("tile_size"),
    )
    side = math.ceil(max(keys.pair("size")) // patch / down)
    each = math.ceil(tile // patch / down)
    whole, crops, told = side * (side + 1) + 1, 0, ""
    if keys.flag("crop_to_patches", default=True) and max(picture.height, picture.width) > tile:
        columns, rows = nearest(picture, (tile, tile), grids(*_tile_limits(keys)))
        crops = rows * each * (columns * each + 1)
        told = f" + {rows * each} rows × ({columns * each} + 1)"
    return Tokens(count=whole + crops, how=f"{side} rows × ({side} + 1) + 1{told}")


def smart_tiles(ask: Ask, picture: Picture) -> Tokens:
    """LFM2-VL: small images are scaled as in Qwen2-VL; large ones are cut into tiles, with a thumbnail."""
    keys = ask.image
    patch, down, tile = keys.size("encoder_patch_size"), keys.size("downsample_factor"), keys.size("tile_size")
    factor, most = patch * down, keys.size("max_image_tokens")
    height, width = picture.height, picture.width
    tall, wide = _fitted(height, width, factor, keys.size("min_image_tokens"), most)
    small = math.ceil(tall // patch / down) * math.ceil(wide // patch / down)
    across, up = (max(patch, round(one / factor) * factor) for one in (width, height))
    large = across * up > most * factor**2 * keys.number("max_pixels_tolerance")
    least, many = keys.size("min_tiles"), keys.size("max_tiles")
    if not large or not keys.flag("do_image_splitting", default=True) or least == many == 1:
        return Tokens(count=small, how=f"scaled to {wide:,} × {tall:,} pixels, tokens of {factor} × {factor} pixels")
    columns, rows = nearest(picture, (tile, tile), grids(least, many))
    each = math.ceil(tile // patch / down) ** 2
    if columns * rows == 1:
        return Tokens(count=small, how="one tile")
    thumbnail = small if keys.flag("use_thumbnail", default=True) else 0
    how = f"{columns} × {rows} tiles × {each} + {thumbnail} of the whole image at {wide} × {tall} pixels"
    return Tokens(count=columns * rows * each + thumbnail, how=how)


def _fitted(height: int, width: int, factor: int, least: int, most: int) -> tuple[int, int]:
    tall, wide = (max(factor, round(one / factor) * factor) for one in (height, width))
    if tall * wide > most * factor**2:
        beta = math.sqrt(height * width / (most * factor**2))
        tall, wide = (max(factor, math.floor(one / beta / factor) * factor) for one in (height, width))
    elif tall * wide < least * factor**2:
        beta = math.sqrt(least * factor**2 / (height * width))
        tall, wide = (math.ceil(one * beta / factor) * factor for one in (height, width))
    return tall, wide


def sliced(ask: Ask, picture: Picture) -> Tokens:
    """MiniCPM-V: the whole image, and slices of a larger one."""
    keys = ask.image
    side, patch, merge = keys.size("scale_resolution"), keys.size("patch_size"), _merge(keys)
    if keys.get("small_image_upsize") == "adaptive":
        raise UncountedError("its processor looks at what is in the image ('small_image_upsize' is adaptive)")
    grid = _sliced_grid(picture, keys.size("max_slice_nums"), side) if keys.flag("slice_mode", default=True) else None
    upscale = grid is None and keys.get("small_image_upsize") in (None, "always")
    tall, wide = _resized((picture.height, picture.width), side, patch * merge, upscale=upscale)
    divisor = merge**2
    whole = (tall // patch) * (wide // patch) // divisor
    if grid is None:
        return Tokens(count=whole, how=f"scaled to {wide} × {tall} pixels")
    rows, columns = grid
    cell = (_divisible(picture.height, rows) / rows, _divisible(picture.width, columns) / columns)
    tall, wide = _resized(cell, side, patch * merge, upscale=True)
    each = (tall // patch) * (wide // patch) // divisor
    return Tokens(
        count=whole + rows * columns * each, how=f"{whole} of the whole image + {columns} × {rows} slices × {each}"
    )


def _merge(keys: Keys) -> int:
    """Patches of a merged square's side."""
    return 2 if keys.get("downsample_mode") == "4x" else 4


def _divisible(length: float, divisor: int) -> int:
    return max(round(length / divisor) * divisor, divisor)


def _resized(size: tuple[float, float], side: int, factor: int, *, upscale: bool) -> Grid:
    """Height and width in whole tokens, at the area of a square."""
    height, width = size
    if height * width > side * side or upscale:
        shape = width / height
        height = int(side / math.sqrt(shape))
        width = int(height * shape)
    return _divisible(height, factor), _divisible(width, factor)


def _sliced_grid(picture: Picture, most: int, side: int) -> Grid | None:
    """Rows and columns of the slices; None for an image that is not larger than one."""
    shape = math.log(picture.width / picture.height)
    multiple = min(math.ceil(picture.width * picture.height / (side * side)), most)
    if multiple <= 1:
        return None
    best, least = (1, 1), math.inf
    for count in (multiple - 1, multiple, multiple + 1):
        if count == 1 or count > most:
            continue
        for rows in (one for one in range(1, count + 1) if count % one == 0):
            apart = abs(shape - math.log(count // rows / rows))
            if apart < least or (apart == least and rows > best[0]):
                best, least = (rows, count // rows), apart
    return best


def windows(ask: Ask, picture: Picture) -> Tokens:
    """Step 3.7: the whole image, and windows of larger or longer ones."""
    keys = ask.image
    side, patch = keys.size("size"), keys.size("patch_size")
    stride = keys.size("vision_patch_size") * keys.size("downsampler_stride")
    whole, each = (side // stride) ** 2, (patch // stride) ** 2
    columns, rows = _windows(picture, side, patch, keys.size("max_image_size"))
    how = f"{whole} of the whole image + {columns} × {rows} windows × {each}"
    return Tokens(count=whole + columns * rows * each, how=how)


def _windows(picture: Picture, side: int, patch: int, most: int) -> Grid:
    """Columns and rows of the windows (`_plan_patches`)."""
    width, height = picture.width, picture.height
    if min(width, height) < 32 and max(width / height, height / width) > 4:
        width = height = max(width, height)
    if max(height, width) > most:
        scale = most / max(height, width)
        width, height = int(width * scale), int(height * scale)
    short, long = sorted((height, width))
    if long <= side:
        window = short if long / short > 1.5 else 0
    elif long / short > 4:
        window = min(short, patch)
    else:
        window = patch
    if window == 0:
        return 0, 0
    columns, rows = (
        max(1, (one // window + (one % window > 0.2 * window)) if one >= window else 0) for one in (width, height)
    )
    return columns, rows


def pooled_tiles(ask: Ask, picture: Picture) -> Tokens:
    """PerceptionLM: the smallest grid that holds the image, else the nearest shape, and a thumbnail."""
    keys = ask.image
    side, patch, pool = keys.size("tile_size"), ask.processor.size("patch_size"), ask.processor.size("pooling_ratio")
    each = (side // patch // pool) ** 2
    if keys.get("vision_input_type") != "thumb+tile":
        return _product(each, (1, 1), 0)
    return _product(each, _perceived(picture, side, keys.size("max_num_tiles")), 1)


def _perceived_grids(most: int) -> dict[float, list[Grid]]:
    found: dict[float, list[Grid]] = {}
    for tiles in range(_limit(most), 0, -1):
        for columns in (one for one in range(1, tiles + 1) if tiles % one == 0):
            found.setdefault(columns / (tiles // columns), []).append((columns, tiles // columns))
    return found


def _perceived(picture: Picture, side: int, most: int) -> Grid:
    width, height, shapes = picture.width, picture.height, _perceived_grids(most)
    shape, best, held = width / height, None, (0.0, 0.0)
    for grid in (one for alike in shapes.values() for one in alike):
        across, up = grid[0] * side, grid[1] * side
        if across < width or up < height:
            continue
        scaled = _inside(width, height, across, up)
        if best is None or (shape < 1 and scaled[0] >= held[0]) or (shape >= 1 and scaled[1] >= held[1]):
            best, held = grid, scaled
    if best is not None:
        return best
    if shape >= 1:
        nearest_shape = min((one for one in shapes if one <= shape), key=lambda one: abs(one - shape))
        return max(shapes[nearest_shape], key=lambda grid: grid[0])
    nearest_shape = min((one for one in shapes if one > shape), key=lambda one: abs(1 / one - 1 / shape))
    return max(shapes[nearest_shape], key=lambda grid: grid[1])


def _inside(width: int, height: int, across: int, up: int) -> tuple[float, float]:
    """Width and height of an image scaled into a canvas."""
    shape, scale = width / height, min(across / width, up / height)
    if shape > 1:
        return scale * width, math.floor(scale * width / shape)
    return math.floor(scale * height * shape), scale * height


def masked(ask: Ask, picture: Picture) -> Tokens:
    """Phi-4 Multimodal: tiles without the patches that are only padding, a global view, and separators."""
    keys = ask.image
    side, patch, most = keys.size("size"), keys.size("patch_size"), keys.size("dynamic_hd")
    width, height = picture.width, picture.height
    columns, rows = math.ceil(width / side), math.ceil(height / side)
    if columns * rows > most:
        columns, rows = nearest(picture, (side, side), grids(1, most))
    across, up = side * columns / width, side * rows / height
    scaled = (side * columns, int(height * across)) if across < up else (int(width * up), side * rows)
    if min(*scaled) < 10:
        raise RefusedMediaError("its processor refuses images that would be less than 10 pixels wide")
    kept = [
        _kept(side // patch, count, max(0, side * count - one) // patch)
        for count, one in ((columns, scaled[0]), (rows, scaled[1]))
    ]
    count = 256 + 1 + kept[0] * kept[1] + kept[1] + 16
    return Tokens(count=count, how=f"256 + 1 of the whole image + {kept[0]} × {kept[1]} patches + {kept[1]} rows + 16")


def _kept(patches: int, tiles: int, padding: int) -> int:
    """Every second patch of each tile, without the padded ones at the end."""
    return sum(one % patches % 2 == 0 for one in range(patches * tiles - padding))


def overlapped(ask: Ask, picture: Picture) -> Tokens:
    """Molmo 2: overlapping crops as one grid, and the whole image, both pooled."""
    keys = ask.image
    side, patch, pool = keys.size("size"), keys.size("patch_size"), keys.pair("pooling_size")
    margins = keys.get("overlap_margins")
    margin = sum(margins) if isinstance(margins, (list, tuple)) and all(type(one) is int for one in margins) else 0
    window = (side // patch - margin) * patch
    if window < 1:
        raise UncountedError("in the processor's files, 'overlap_margins' is impossible")
    rows, columns = _scaled_grid(
        (picture.height - margin * patch, picture.width - margin * patch), window, keys.size("max_crops")
    )
    tall, wide = (count * window // patch + margin for count in (rows, columns))
    high = math.ceil(tall / pool[0]) * math.ceil(wide / pool[1])
    low = math.ceil(side // patch / pool[0]) * math.ceil(side // patch / pool[1])
    return Tokens(count=low + high, how=f"{low} of the whole image + {high} of {columns} × {rows} overlapping crops")


def _scaled_grid(size: tuple[int, int], window: int, most: int) -> Grid:
    """Rows and columns with the least scaling up, else the least scaling down; in single precision, as there."""
    sides = range(1, _limit(most) + 1)
    both = product(sides, sides)
    candidates = sorted((one for one in both if one[0] * one[1] <= most), key=lambda one: (one[0] * one[1], one[0]))
    scales = [min(_ratio(grid[side] * window, size[side]) for side in (0, 1)) for grid in candidates]
    if all(scale < 1 for scale in scales):
        return candidates[scales.index(max(scales))]
    up = [scale if scale >= 1 else 10e9 for scale in scales]
    return candidates[up.index(min(up))]


def _ratio(upper: int, lower: int) -> float:
    """A quotient in single precision, also by nothing."""
    return math.inf if lower == 0 else _single(upper / lower)
