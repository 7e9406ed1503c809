"""Options on images, videos and sound in the prompt."""

import re
from dataclasses import dataclass
from typing import Annotated, Final

from hfmem.options.option import Option
from hfmem.options.panels import SIZE

__all__ = ["USUAL_IMAGE", "MediaOptions", "image_size"]

USUAL_IMAGE: Final = (1024, 1024)
"""Width and height of an image if no other is given."""

_MOST: Final = 100_000
"""Images, frames or seconds: a bound beyond any meaningful value."""

_SIZE: Final = re.compile(r"\s*(\d{1,6})\s*[x×X*]\s*(\d{1,6})\s*", re.ASCII)
_LONGEST_SIDE: Final = 65_536  # pixels; that of formats of images


def image_size(word: str) -> tuple[int, int]:
    """Width and height, as in `1024x768`.

    Raises:
        ValueError: it is no such size; the message is worded to follow the option's name.
    """
    found = _SIZE.fullmatch(word)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(1 <= side <= _LONGEST_SIDE for side in size):
        raise ValueError(f"is '{word[:20]}', expected width and height in pixels, as in 1024x768")
    return size


def _wrong(word: str) -> str | None:
    """What is wrong with a size; None if it is valid."""
    try:
        image_size(word)
    except ValueError as error:
        return str(error)
    return None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class MediaOptions:
    """What is in each prompt beside text; its tokens are part of the prompt, and so of `--seq`."""

    images: Annotated[
        int | None,
        Option(
            help="Images per sequence; their tokens are part of the prompt, and so of --seq",
            panel=SIZE,
            shown="0",
            least=0,
            most=_MOST,
            methods=("exact",),
        ),
    ] = None
    image_size: Annotated[
        str | None,
        Option(
            help="Width and height of each image, and of each frame of a video, in pixels",
            panel=SIZE,
            metavar="WxH",
            shown=f"{USUAL_IMAGE[0]}x{USUAL_IMAGE[1]}",
            check=_wrong,
            methods=("exact",),
        ),
    ] = None
    video_frames: Annotated[
        int | None,
        Option(
            help="Frames of one video per sequence, as they are after sampling",
            panel=SIZE,
            shown="no video",
            least=1,
            most=_MOST,
            methods=("exact",),
        ),
    ] = None
    audio_seconds: Annotated[
        float | None,
        Option(
            help="Seconds of sound per sequence",
            panel=SIZE,
            metavar="S",
            shown="none",
            above=0,
            most=_MOST,
            methods=("exact",),
        ),
    ] = None
