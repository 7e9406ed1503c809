"""`python -m tests.documents` tells which pages are not what their commands print; `--write` makes them so.

With a name, a page's stem (`README`, `accuracy`), only that page.
"""

from __future__ import annotations

import sys

from tests.documents.pages import pages, regenerated
from tests.documents.pieces import put_pieces
from tests.documents.terminal import PICTURE, picture, seen


def main(words: list[str]) -> int:
    """The number of pages that differ, or differed."""
    names = {word for word in words if not word.startswith("-")}
    write, differ = "--write" in words, 0
    for page in pages():
        if not names or page.stem in names:
            now = put_pieces(regenerated(page))
            if now != page.read_text(encoding="utf-8"):
                differ += 1
                print(page.name)
                if write:
                    page.write_text(now, encoding="utf-8")
    if not names or "card" in names:
        svg = picture()
        if not PICTURE.exists() or seen(svg) != seen(PICTURE.read_text(encoding="utf-8")):
            differ += 1
            print(PICTURE.name)
            if write:
                PICTURE.write_text(svg, encoding="utf-8")
    return 0 if write else differ


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
