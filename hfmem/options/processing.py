"""Settings of a processor of images and videos, as options have them."""

import json
from typing import Final

__all__ = ["HARMLESS", "SCOPES", "SIZES", "processing"]

SIZES: Final = ("min_pixels", "max_pixels", "size")
"""Settings that decide how large images and videos are."""

HARMLESS: Final = (
    "device",
    "do_convert_rgb",
    "do_normalize",
    "do_rescale",
    "fps",
    "image_mean",
    "image_std",
    "resample",
    "rescale_factor",
    "use_fast",
)
"""Settings that change neither how many tokens an image is, nor how many a video of so many frames is."""

SCOPES: Final = {"image": "images_kwargs", "video": "videos_kwargs"}
"""Where settings of one part stand apart."""

_MOST: Final = 10**9


def processing(word: str) -> str:
    """Settings of a processor as a JSON object, in one spelling.

    Raises:
        ValueError: it is none, or has a setting whose effect is not known; the message is worded to follow the
            option's name.
    """
    try:
        read = json.loads(word)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict) or not read:
        raise ValueError(f"'{word:.40}' is not a JSON object, such as '{{\"max_pixels\": 1003520}}'")
    plain = {name: value for name, value in read.items() if name not in SCOPES.values()}
    for settings in (plain, *(read[scope] for scope in SCOPES.values() if scope in read)):
        if not isinstance(settings, dict):
            raise ValueError(f"'{word:.40}': {' and '.join(SCOPES.values())} are JSON objects")
        for name, value in settings.items():
            if name not in (*SIZES, *HARMLESS):
                raise ValueError(f"'{word:.40}': what '{name}' does to images is not known; {', '.join(SIZES)} are")
            sizes = value.values() if name == "size" and isinstance(value, dict) else (value,)
            if name in SIZES and not all(type(one) is int and 0 < one < _MOST for one in sizes):
                raise ValueError(f"'{word:.40}': '{name}' has whole numbers from 1")
    return json.dumps(read)
