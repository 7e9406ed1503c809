"""Images, videos and sound that a model does not take, or that do not go into the prompt."""

from __future__ import annotations

from hfmem.errors import InvalidScenarioError

__all__ = ["MediaError", "MediaLengthError"]


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
