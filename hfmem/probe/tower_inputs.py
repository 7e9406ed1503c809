"""Pixels as processors hand them over, in the layouts that the classes of vision towers take.

Which layout a class takes is told by the parameters of its `get_image_features`. Where several would do, they are tried
in turn: `layouts` gives them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import isqrt
from typing import Any, Final

import torch

__all__ = ["Layout", "layouts", "merge_of"]

_SIDES: Final = (6, 8, 10, 12)
_IMAGES: Final = (1, 2, 3, 4, 5)
"""A class may copy what it does not copy of one image: runs of other numbers are still of several ones."""

_CHANNELS: Final = 3
_STEPS: Final = {"step3p5_vision": 4, "granite_docling_vision": 4, "got_ocr2_vision": 4}
"""Rows of patches are a multiple of these in published models, as they are halved twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to hand images to a tower.

    Attributes:
        inputs: arguments of `get_image_features`.
        counts: `b` images (or tiles) of `s` patches with `pixels` values each, and `positions` trained ones; of an
            image cut into `tiles`, `b` counts the whole image too, and a tile has `side` rows.
        packed: whether all images are one sequence of patches.
        extents: sides of what `counts` has the areas of, which few classes' tensors follow: `rows` and `columns` of
            merged patches, `side` of a square image, `position_side` of a square of trained positions; and tokens of a
            tile.
    """

    inputs: Mapping[str, Any]
    counts: Mapping[str, int]
    packed: bool
    extents: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """A class's parameters and config, and the size of its patches."""

    parameters: Sequence[str]
    config: Any
    vision: Any
    patch: int
    rng: random.Random


def layouts(parameters: Sequence[str], config: Any, vision: Any, rng: random.Random) -> Iterator[Layout]:
    """The layouts that a class may take, the likeliest first. Sizes of images are written into the config."""
    patch = rng.choice((4, 6, 7, 8))
    if hasattr(vision, "patch_size"):
        vision.patch_size = [patch, patch] if isinstance(vision.patch_size, (list, tuple)) else patch
    for name in ("patch_dim", "patch_embed_hidden_size"):
        if hasattr(vision, name):
            setattr(vision, name, _CHANNELS * patch**2)
    ask = _Ask(parameters=parameters, config=config, vision=vision, patch=patch, rng=rng)
    likeliest = next((maker for name, maker in _MAKERS.items() if name in parameters), _plain)
    # a parameter may be for some towers of the class only (LLaVA's `image_sizes`, for Pixtral's)
    for found in chain.from_iterable(maker(ask) for maker in dict.fromkeys((likeliest, _plain))):
        yield found
        half = {name: value.bfloat16() if value.is_floating_point() else value for name, value in found.inputs.items()}
        yield replace(found, inputs=half)


def merge_of(vision: Any) -> int:
    """Patches on a side that become one token."""
    kernel = getattr(vision, "merge_kernel_size", None)
    sides = (getattr(vision, key, None) for key in ("spatial_merge_size", "merge_size"))
    return int(kernel[0] if kernel else next(filter(None, sides), 2))


def _grid(ask: _Ask) -> Iterator[Layout]:
    """Flat patches of all images, and the grid of each."""
    merge = merge_of(ask.vision)
    temporal = max(getattr(ask.vision, key, None) or 1 for key in ("temporal_patch_size", "patch_temporal"))
    rows, columns = (merge * ask.rng.randrange(3, 9) for _ in range(2))
    positions = _positions(ask.vision, ask.patch, ask.rng)
    name = next(name for name in ("image_grid_thw", "image_grid_hw") if name in ask.parameters)
    grid = {name: torch.tensor([[1, rows, columns] if name == "image_grid_thw" else [rows, columns]])}
    if "image_merge_sizes" in ask.parameters:
        grid["image_merge_sizes"] = torch.tensor([merge])
    several = (temporal, 1) if temporal > 1 else (1, 2)
    for frames in several:
        pixels = _CHANNELS * frames * ask.patch**2
        counts = {"b": 1, "s": rows * columns, "pixels": pixels, **positions}
        extents = {"rows": rows // merge, "columns": columns // merge}
        flat = torch.randn(rows * columns, pixels)
        yield Layout(inputs={"pixel_values": flat, **grid}, counts=counts, packed=True, extents=extents)
        if frames == 1:
            square = flat.view(rows * columns, _CHANNELS, ask.patch, ask.patch)
            yield Layout(inputs={"pixel_values": square, **grid}, counts=counts, packed=True, extents=extents)


def _positions(vision: Any, patch: int, rng: random.Random) -> dict[str, int]:
    """Trained positions, where a packed type resizes a square of them to each image."""
    side = rng.randrange(7, 21)
    for name in ("max_img_size", "image_size", "max_image_size"):
        if isinstance(getattr(vision, name, None), int):
            setattr(vision, name, side * patch)
            return {"positions": side**2}
    if hasattr(vision, "num_patches"):
        vision.num_patches = side**2
        return {"positions": side**2}
    if hasattr(vision, "pos_emb_height"):
        vision.pos_emb_height = vision.pos_emb_width = side
        if hasattr(vision, "max_position_embeddings"):
            vision.max_position_embeddings = side**2
        return {"positions": side**2}
    return {}


def _targets(ask: _Ask) -> Iterator[Layout]:
    """All patches side by side in one strip, and the rows and columns of each image."""
    rows, columns = (4 * ask.rng.randrange(2, 6) for _ in range(2))
    counts = {
        "b": 1,
        "s": rows * columns,
        "pixels": _CHANNELS * ask.patch**2,
        **_positions(ask.vision, ask.patch, ask.rng),
    }
    strip = torch.randn(1, _CHANNELS, ask.patch, rows * columns * ask.patch)
    target = torch.tensor([[rows, columns]], dtype=torch.int32)
    yield Layout(inputs={"pixel_values": strip, "target_sizes": target}, counts=counts, packed=True)


def _shapes(ask: _Ask) -> Iterator[Layout]:
    """Flat patches of each image, padded to the most of any."""
    side, images = ask.rng.choice(_SIDES), ask.rng.choice(_IMAGES)
    pixels = _CHANNELS * ask.patch**2
    inputs = {
        "pixel_values": torch.randn(images, side * side, pixels),
        "spatial_shapes": torch.tensor([[side, side]] * images),
        "pixel_attention_mask": torch.ones(images, side * side, dtype=torch.long),
    }
    counts = {"b": images, "s": side * side, "pixels": pixels, **_positions(ask.vision, ask.patch, ask.rng)}
    extents = {"position_side": isqrt(counts["positions"])} if "positions" in counts else {}
    yield Layout(inputs=inputs, counts=counts, packed=False, extents=extents)


def _coordinates(ask: _Ask) -> Iterator[Layout]:
    """Flat patches of each image, and where each patch is."""
    pooled = int(getattr(ask.vision, "pooling_kernel_size", None) or 1)
    side, images = pooled * ask.rng.randrange(2, 5), ask.rng.choice(_IMAGES)
    pixels = _CHANNELS * ask.patch**2
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side)).flip(-1)
    inputs = {
        "pixel_values": torch.rand(images, side * side, pixels),
        "image_position_ids": places[None].repeat(images, 1, 1),
    }
    yield Layout(inputs=inputs, counts={"b": images, "s": side * side, "pixels": pixels}, packed=False)


def _sized(ask: _Ask) -> Iterator[Layout]:
    """Images and their sizes: one sequence of all their patches, or a tile and the whole image of each."""
    side = ask.rng.choice(_SIDES)
    extents = {}
    if getattr(ask.config, "downsample_rate", None):  # a part of a window on each side
        few, many = map(int, ask.config.downsample_rate.split("/"))
        windows = ask.rng.choice((1, 2))
        side = many * windows
        extents = {"rows": few * windows, "tile_tokens": (few * windows) ** 2}
    size = _square(ask.vision, side * ask.patch)
    pixels = {"pixels": _CHANNELS * ask.patch**2}
    if hasattr(ask.config, "image_grid_pinpoints"):
        tiles = ask.rng.choice((1, 2, 3, 4))
        ask.config.image_grid_pinpoints = [[size, tiles * size]]
        inputs = {
            "pixel_values": torch.randn(1, 1 + tiles, _CHANNELS, size, size),
            "image_sizes": torch.tensor([[size, tiles * size]]),
        }
        counts = {"b": 1 + tiles, "tiles": tiles, "s": side * side, "side": side, **pixels}
        yield Layout(inputs=inputs, counts=counts, packed=False, extents=extents)
        return
    inputs = {"pixel_values": torch.randn(1, _CHANNELS, size, size), "image_sizes": torch.tensor([[size, size]])}
    yield Layout(inputs=inputs, counts={"b": 1, "s": side * side, **pixels}, packed=True)


def _plain(ask: _Ask) -> Iterator[Layout]:
    """Images of one size, or tiles of images."""
    side, images = ask.rng.choice(_SIDES), ask.rng.choice(_IMAGES)
    side = 2 * side if side % _STEPS.get(ask.vision.model_type, 1) else side
    size = _square(ask.vision, side * ask.patch)
    if hasattr(ask.config, "mm_tokens_per_image"):
        ask.config.mm_tokens_per_image = side * side // 4
    pixels = torch.randn(images, _CHANNELS, size, size)
    counts = {"b": images, "s": side * side, "pixels": _CHANNELS * ask.patch**2}
    if hasattr(ask.config, "projector_patch_to_query_dict"):
        counts["queries"] = ask.rng.randrange(5, 40)
        ask.config.projector_patch_to_query_dict = {side * side: counts["queries"]}
        ask.config.max_value_projector_patch_to_query_dict = counts["queries"]
    extents = {"side": side}
    if "pixel_attention_mask" not in ask.parameters:
        yield Layout(inputs={"pixel_values": pixels}, counts=counts, packed=False, extents=extents)
        return
    tiles = pixels[None]
    for inputs in ({}, {"pixel_attention_mask": torch.ones(1, images, dtype=torch.bool)}):
        yield Layout(inputs={"pixel_values": tiles, **inputs}, counts=counts, packed=False, extents=extents)


def _flattened(ask: _Ask) -> Iterator[Layout]:
    """Patches of each image, padded to the most of any, each after its row and column."""
    side, images = ask.rng.choice(_SIDES), ask.rng.choice(_IMAGES)
    pixels = _CHANNELS * ask.patch**2
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side)) + 1.0
    patches = torch.cat([places[None].repeat(images, 1, 1), torch.randn(images, side * side, pixels)], dim=-1)
    counts = {"b": images, "s": side * side, "pixels": pixels}
    yield Layout(inputs={"flattened_patches": patches}, counts=counts, packed=False)


def _asked(ask: _Ask) -> Iterator[Layout]:
    """Images, or one video's frames, and a question that trained queries take in."""
    words = ask.rng.randrange(13, 60)
    for found in _plain(ask):
        images = found.counts["b"]
        counts = {**found.counts, "words": words}
        for inputs, asked in (
            (found.inputs, images),
            ({"pixel_values": found.inputs["pixel_values"][None]}, 1),
        ):
            question = {"qformer_input_ids": torch.ones(asked, words, dtype=torch.long)}
            yield Layout(inputs={**inputs, **question}, counts=counts, packed=False, extents=found.extents)


def _square(vision: Any, size: int) -> int:
    if hasattr(vision, "image_size"):
        vision.image_size = [size, size] if isinstance(vision.image_size, (list, tuple)) else size
    return size


_Maker = Callable[[_Ask], Iterator[Layout]]

_MAKERS: Final[Mapping[str, _Maker]] = {
    "image_grid_thw": _grid,
    "image_grid_hw": _grid,
    "target_sizes": _targets,
    "spatial_shapes": _shapes,
    "image_position_ids": _coordinates,
    "image_sizes": _sized,
    "flattened_patches": _flattened,
    "qformer_input_ids": _asked,
}
