"""Tables of text, with columns side by side."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["grid"]


def grid(rows: Sequence[Sequence[str]], headers: Sequence[str], alignment: Sequence[str] | None = None) -> str:
    """Rows under their headers, each column as wide as its longest line.

    Args:
        rows: cells, which may have several lines.
        headers: of the columns.
        alignment: `left` or `right` for each column; None for left.
    """
    from tabulate import tabulate  # loads the parsers of mails, which answers without such a table can do without

    return tabulate(rows, headers=headers, disable_numparse=True, colalign=alignment)
