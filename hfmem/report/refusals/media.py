"""Of images, videos and sound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.refusals.media import MediaError, MediaLengthError

__all__ = ["WORDS"]


def _media(error: MediaError) -> str:
    return f"{error.option} cannot be counted for this model: {error.why}"


def _length(error: MediaLengthError) -> str:
    what = f"images, videos and sound are {error.tokens:,} tokens of the prompt"
    return f"{what}, more than {error.option} {error.limit:,}: ask for --seq {error.tokens:,} or more"


WORDS: Final[dict[type, Callable[[Any], str]]] = {MediaError: _media, MediaLengthError: _length}
