"""Model cards: which base model they name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from hfmem.fetcher.files import read_text
from hfmem.fetcher.identity import is_model_id

__all__ = ["CARD", "card_base", "read_card_base"]

CARD: Final = "README.md"

_LONGEST_NAME: Final = 300  # characters of a name that comes from a file
_LONGEST_CARD: Final = 2**20  # bytes of a card that is read

_BASE: Final = re.compile(
    r"""^base_model:[ \t]*(?:\r?\n[ \t]*-[ \t]*)?["']?([\w.\-]+/[\w.\-]+)""", re.MULTILINE | re.ASCII
)


def card_base(given: object) -> str:
    """`base_model` of a model card, of several the first; "" for none."""
    first = given[0] if isinstance(given, list) and given else given
    return first if isinstance(first, str) and len(first) <= _LONGEST_NAME and is_model_id(first) else ""


def read_card_base(folder: Path) -> str:
    """`base_model` in the front matter of a folder's model card; "" for none."""
    try:
        text = read_text(folder / CARD, _LONGEST_CARD)
    except OSError:
        return ""
    if not text.startswith("---"):
        return ""
    match = _BASE.search(text[3:].partition("\n---")[0])
    return card_base(match.group(1)) if match else ""
