"""Videos: frames that are merged in time, pooled, or counted one by one."""

from __future__ import annotations

import math
from collections.abc import Callable

from hfmem.mapper.media.fixed import patch_of, prepared_size
from hfmem.mapper.media.grids import fitted, fitted_frames, padded_frames, pixel_limits, soft_size
from hfmem.mapper.media.values import Ask, Clip, Keys, Picture, Tokens

__all__ = [
    "each_frame",
    "halved",
    "in_time",
    "merged",
    "on_its_own",
    "padded",
    "perceived",
    "pooled",
    "shared",
    "soft",
    "stepped",
]


def _frames(ask: Ask, clip: Clip) -> tuple[int, int, int]:
    """Steps in time, pixels of a token's side, and frames of a step."""
    keys = ask.video
    temporal = keys.size("temporal_patch_size")
    return -(-clip.frames // temporal), keys.size("patch_size") * keys.size("merge_size"), temporal


def _product(steps: int, size: tuple[int, int], factor: int) -> Tokens:
    rows, columns = size[0] // factor, size[1] // factor
    how = f"scaled to {size[1]:,} × {size[0]:,} pixels, {steps} steps in time × {columns} × {rows} tokens"
    return Tokens(count=steps * rows * columns, how=how)


def merged(ask: Ask, clip: Clip) -> Tokens:
    """Each frame is scaled as an image is (Qwen2-VL)."""
    steps, factor, _ = _frames(ask, clip)
    return _product(steps, fitted(clip.height, clip.width, factor, *pixel_limits(ask.video)), factor)


def shared(ask: Ask, clip: Clip) -> Tokens:
    """The limits of pixels are of all frames together (Qwen3-VL, GLM-4V)."""
    steps, factor, temporal = _frames(ask, clip)
    least, most = pixel_limits(ask.video)
    if ask.video.flag("cap_pixels_per_frame"):
        each = ask.video.size("max_video_tokens") * factor**2
        most = max(min(each, most // clip.frames), int(least * 1.05)) * clip.frames
    size = fitted_frames(clip.frames, (clip.height, clip.width), factor, temporal, (least, most))
    return _product(steps, size, factor)


def padded(ask: Ask, clip: Clip) -> Tokens:
    """Frames padded to whole tokens, within the most tokens of all together (GLM-5-Next)."""
    steps, factor, _ = _frames(ask, clip)
    return _product(steps, padded_frames(ask.video, clip.frames, (clip.height, clip.width)), factor)


def stepped(resized: Callable[[Keys, tuple[int, int]], tuple[int, int]]) -> Callable[[Ask, Clip], Tokens]:
    """Frames scaled by a function, a step in time as many tokens as one of them (Kimi-K2.5, Muse Glimmer)."""

    def rule(ask: Ask, clip: Clip) -> Tokens:
        steps, factor, _ = _frames(ask, clip)
        return _product(steps, resized(ask.video, (clip.height, clip.width)), factor)

    return rule


def in_time(ask: Ask, clip: Clip) -> Tokens:
    """Each frame is scaled as an image is, and steps in time are padded by frames, then merged (ERNIE 4.5 VL)."""
    keys = ask.video
    factor, temporal = keys.size("patch_size") * keys.size("merge_size"), keys.size("temporal_patch_size")
    frames = clip.frames + -clip.frames % temporal
    size = fitted(clip.height, clip.width, factor, *pixel_limits(keys))
    return _product(frames // temporal, size, factor)


def soft(ask: Ask, clip: Clip) -> Tokens:
    """Each frame becomes as many pooled patches as are allowed (Gemma 4)."""
    tall, wide, side = soft_size(ask.video, clip.height, clip.width)
    return _product(clip.frames, (tall, wide), side)


def each_frame(*names: str) -> Callable[[Ask, Clip], Tokens]:
    """A number of the processor's settings for each frame."""

    def rule(ask: Ask, clip: Clip) -> Tokens:
        each = ask.processor.size(*names)
        return Tokens(count=clip.frames * each, how=f"{clip.frames} frames × {each}")

    return rule


def _picture(clip: Clip) -> Picture:
    return Picture(width=clip.width, height=clip.height)


def halved(ask: Ask, clip: Clip) -> Tokens:
    """Patches of each frame, pooled two by two (LLaVA-NeXT-Video)."""
    tall, wide = prepared_size(ask.video, _picture(clip))
    patch = patch_of(ask)
    each = (tall // patch) * (wide // patch) // 4
    return Tokens(count=clip.frames * each, how=f"{clip.frames} frames × {each}")


def on_its_own(ask: Ask, clip: Clip) -> Tokens:
    """Patches of each frame, with the tower's class token (Video-LLaVA)."""
    tall, wide = prepared_size(ask.video, _picture(clip))
    patch = patch_of(ask)
    each = (tall // patch) * (wide // patch) + ask.processor.integer("num_additional_image_tokens", default=0)
    return Tokens(count=clip.frames * each, how=f"{clip.frames} frames × {each}")


def pooled(ask: Ask, clip: Clip) -> Tokens:
    """Frames pooled two by two, and one token at the end (LLaVA-OneVision)."""
    side = math.ceil(int(math.sqrt(ask.processor.size("num_image_tokens"))) / 2)
    return Tokens(count=clip.frames * side**2 + 1, how=f"{clip.frames} frames × {side}² + 1")


def perceived(ask: Ask, clip: Clip) -> Tokens:
    """One pooled tile for each frame (PerceptionLM)."""
    tall, wide = ask.video.pair("size")
    patch, pool = ask.processor.size("patch_size"), ask.processor.size("pooling_ratio")
    each = (tall // patch // pool) * (wide // patch // pool)
    return Tokens(count=clip.frames * each, how=f"{clip.frames} frames × {each}")
