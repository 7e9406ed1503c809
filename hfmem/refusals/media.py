"""Images, videos and sound that a model does not take, or that do not go into the prompt."""

from __future__ import annotations

from typing import Literal

from hfmem.errors import InvalidScenarioError

__all__ = ["ImageSizeError", "LoneImageSizeError", "MediaError", "MediaLengthError", "NetworkError"]


class MediaError(InvalidScenarioError):
    """What cannot be counted.

    Attributes:
        option: the option that asks for it.
        why: a clause on what is missing.
    """

    def __init__(self, option: str, why: str) -> None:
        super().__init__()
        self.option, self.why = option, why


class MediaLengthError(InvalidScenarioError):
    """More tokens than what they are a part of.

    Attributes:
        tokens: of images, videos and sound together.
        option: `--prompt` or `--seq`.
        limit: its tokens.
    """

    usage = True

    def __init__(self, tokens: int, option: str, limit: int) -> None:
        super().__init__()
        self.tokens, self.option, self.limit = tokens, option, limit


class LoneImageSizeError(InvalidScenarioError):
    """A size of images where there are none."""

    usage = True


class ImageSizeError(InvalidScenarioError):
    """Images of a size that a network is not built for.

    Attributes:
        size: width and height that were asked, in pixels.
        built: those that it is built for.
    """

    usage = True

    def __init__(self, size: tuple[int, int], built: tuple[int, int]) -> None:
        super().__init__()
        self.size, self.built = size, built


class NetworkError(InvalidScenarioError):
    """What does not go with a network for images.

    Attributes:
        why: the textbook's formulas, an engine that runs none, or videos and sound.
        word: that for `--runtime`, or the option.
    """

    def __init__(self, why: Literal["textbook", "engine", "media"], word: str = "") -> None:
        super().__init__()
        self.why, self.word = why, word
