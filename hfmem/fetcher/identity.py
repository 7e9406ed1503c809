"""What can be the name of a repository."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_model_id"]

_ID: Final = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")
_LONGEST: Final = 200  # the Hub allows 96 a part


def is_model_id(text: str) -> bool:
    """Whether a word can be a repository of the Hub, `name` or `owner/name`: the rules of
    `huggingface_hub.utils.validate_repo_id`, so that it can safely become part of an address or a file name."""
    return len(text) <= _LONGEST and ".." not in text and "--" not in text and _ID.fullmatch(text) is not None
