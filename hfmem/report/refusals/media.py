"""Of images, videos and sound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.refusals.media import ImageSizeError, LoneImageSizeError, MediaError, MediaLengthError, NetworkError

__all__ = ["WORDS"]


def _media(error: MediaError) -> str:
    return f"{error.option} cannot be counted for this model: {error.why}"


def _length(error: MediaLengthError) -> str:
    what = f"images, videos and sound are {error.tokens:,} tokens of the prompt"
    return f"{what}, more than {error.option} {error.limit:,}: ask for --seq {error.tokens:,} or more"


def _lone_size(_error: LoneImageSizeError) -> str:
    return "--image-size needs --images or --video-frames"


def _size(error: ImageSizeError) -> str:
    (width, height), (wide, tall) = error.size, error.built
    return (
        f"--image-size {width}x{height}: the network is built for images of {wide} × {tall} pixels, and takes no "
        "others. Leave --image-size out, or name a folder whose config.json has another img_size or dynamic_img_size "
        "in model_args"
    )


def _network(error: NetworkError) -> str:
    if error.why == "textbook":
        return "the textbook's formulas are for language models, and this is a network for images"
    if error.why == "media":
        return f"{error.word} has no meaning here: this network takes images only. Leave it out"
    return f"--runtime {error.word} runs no networks of timm: leave --runtime out"


WORDS: Final[dict[type, Callable[[Any], str]]] = {
    MediaError: _media,
    MediaLengthError: _length,
    LoneImageSizeError: _lone_size,
    ImageSizeError: _size,
    NetworkError: _network,
}
