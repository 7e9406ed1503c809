"""Lists the ids of all public models of a task, one a line: what a table of the Hub is made of.

    python -m hfmem.probe.ids text-generation > ids.txt
    hfmem --from ids.txt --out table.parquet

Each page of the Hub's listing has up to 1,000 ids and is one request to its API. Where the quota is used up, the run
waits for the next window.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlencode

from huggingface_hub import constants

from hfmem.errors import HfmemError, UnexpectedAnswerError
from hfmem.fetcher.budget import Budget
from hfmem.fetcher.http import client_for
from hfmem.fetcher.identity import is_model_id
from hfmem.fetcher.reach import Reach
from hfmem.report.errors import explain

__all__ = ["ids", "main"]

_PAGE: Final = 1000  # rows, as many as the Hub gives
_LONGEST: Final = 64 * 2**20  # bytes of a page


def ids(task: str, page: int = _PAGE) -> Iterator[str]:
    """The ids of the public models of a task, each once, as the pages of the Hub's listing have them, oldest first:
    what is added meanwhile comes at the end.

    Raises:
        HfmemError: the Hub does not answer, or with something else.
    """
    query = urlencode({"pipeline_tag": task, "sort": "createdAt", "direction": 1, "limit": page})
    listing = f"{constants.ENDPOINT}/api/models?"
    url: str | None = listing + query
    seen: set[str] = set()
    reach = Reach(Budget())
    while url is not None:
        client = client_for("", None, patient=lambda: True, reach=reach)
        answer = client.get(url, limit=_LONGEST + 1)
        rows = _rows(answer.content)
        new = dict.fromkeys(each for each in rows if each not in seen)
        yield from new
        seen.update(new)
        url = answer.following if new else None
        if url is not None and not url.startswith(listing):
            raise UnexpectedAnswerError("", "the next page of the listing is at another address")


def _rows(content: bytes) -> list[str]:
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list):
        raise UnexpectedAnswerError("", "the listing of models is no list")
    named = (row.get("id") for row in rows if isinstance(row, dict))
    return [name for name in named if isinstance(name, str) and is_model_id(name)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the ids; 1 if the Hub did not give all of them."""
    parser = argparse.ArgumentParser(prog="python -m hfmem.probe.ids", description=__doc__)
    parser.add_argument("task", help="as the Hub names it: text-generation, feature-extraction, …")
    asked = parser.parse_args(arguments)
    try:
        for name in ids(asked.task):
            print(name)
    except HfmemError as error:
        problem = explain(error)
        print(f"{problem.message} {problem.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
