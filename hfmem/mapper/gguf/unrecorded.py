"""Architectures of llama.cpp whose compute graph is not recorded, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["UNRECORDED"]

_DRAFTS: Final = "it drafts for another model, with which llama.cpp runs it, and not alone"
_SOUND: Final = "it makes sound of what a model has written, and runs no batches of tokens"
_TEXT_TO_TEXT: Final = "its encoder takes positions by distance, of sizes that the recording does not try"
_NOT_BUILT: Final = "a small file of it could not be built"
_ENDLESS: Final = f"{_NOT_BUILT}: the search for its tensors came to no end"
_LEFT: Final = "a small file of it loads, and was not run with other sizes yet"
UNRECORDED: Final[Mapping[str, str]] = {
    "clip": "it is a tower for images or sound, which llama.cpp loads beside a model with --mmproj",
    "dflash": _DRAFTS,
    "eagle3": _DRAFTS,
    "gemma4-assistant": _DRAFTS,
    "gptj": "llama.cpp 0.5.0 knows the name and loads no such file: 'unsupported model architecture'",
    "glm5-next": "the build of llama.cpp 0.5.0 that was asked does not know it",
    "pockettts": _SOUND,
    "wavtokenizer-dec": _SOUND,
    "t5": _TEXT_TO_TEXT,
    "t5encoder": _TEXT_TO_TEXT,
    "deepseek4": f"{_NOT_BUILT}: its loader takes one way of scoring experts alone, 'sqrtsoftplus'",
    "dots3note": f"{_NOT_BUILT}: sizes of its heads do not follow from the keys that others have",
    "graniteswitch": f"{_NOT_BUILT}: its loader asks for a list of tokens for each adapter",
    "hrm_text": _LEFT,
    "hy_v4": f"{_NOT_BUILT}: its heads have a part without positions, whose size others have no key for",
    "jina-bert-v2": _ENDLESS,
    "laguna": f"{_NOT_BUILT}: it takes a gate of attention by its width, one for each head or element",
    "plm": _ENDLESS,
    "qwen4exp": _LEFT,
}
"""By llama.cpp's word for the architecture; weights, caches and states are known of these, too."""
