"""Ids that are known on this machine and that a misspelt one may mean."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache as memoised
from pathlib import Path

from huggingface_hub import constants

from hfmem.fetcher import cache, catalog
from hfmem.fetcher.identity import is_model_id

__all__ = ["near_ids"]

_SHOWN = 3


def near_ids(word: str) -> tuple[str, ...]:
    """Ids of the catalog and of the caches, the nearest first; of a name without its owner, those of any owner."""
    from difflib import get_close_matches  # for what is not found only

    whole = "/" in word
    namesakes = [each for each in _known() if each.lower().rpartition("/")[2] == word.lower().rpartition("/")[2]]
    if namesakes and not whole:
        return tuple(namesakes[:_SHOWN])
    known: dict[str, str] = {}
    for each in _known():
        known.setdefault(each.lower() if whole else each.lower().rpartition("/")[2], each)
    found = [known[key] for key in get_close_matches(word.lower(), known, n=_SHOWN + 1, cutoff=0.8)]
    found = found or namesakes  # the right name under a wrong owner
    return tuple(each for each in found if each.lower() != word.lower())[:_SHOWN]


@memoised
def _known() -> tuple[str, ...]:
    return tuple(dict.fromkeys((*catalog.model_ids(), *_downloaded(), *cache.model_ids())))


def _downloaded() -> Iterator[str]:
    """What the Hugging Face cache holds."""
    try:
        names = sorted(path.name for path in Path(constants.HF_HUB_CACHE).glob("models--*"))
    except OSError:
        return
    found = (name.removeprefix("models--").replace("--", "/", 1) for name in names)
    yield from filter(is_model_id, found)
