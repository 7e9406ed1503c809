"""Ids of public models on the Hub that match a few characters."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import urlencode

from huggingface_hub import constants

from hfmem.errors import HfmemError
from hfmem.fetcher.identity import is_model_id
from hfmem.fetcher.reach import Reach

__all__ = ["public_ids"]

_LONGEST: Final = 2**20  # bytes of an answer
_WORD: Final = 96  # characters that are searched for


def public_ids(word: str, count: int, reach: Reach | None = None) -> tuple[str, ...]:
    """The most downloaded public models that match; () where the Hub cannot be asked. No token is sent."""
    if constants.is_offline_mode() or not word.strip():
        return ()
    from hfmem.fetcher.http import FileMissingError, client_for  # the client costs a tenth of a second to import

    query = urlencode({"search": word.strip()[:_WORD], "limit": count, "sort": "downloads", "direction": -1})
    try:
        client = client_for("", None, patient=lambda: False, reach=reach, login=False)
        answer = client.get(f"{constants.ENDPOINT}/api/models?{query}", limit=_LONGEST + 1)
        rows = json.loads(answer.content)
    except (HfmemError, FileMissingError, ValueError, RecursionError):
        return ()
    ids = (row.get("id") for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()
    return tuple(each for each in ids if isinstance(each, str) and is_model_id(each))[:count]
