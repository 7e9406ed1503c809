"""Escaping of names, which come from files and other people: by the rules of each format, so that no name can break a
row, control a terminal or insert a formula into a spreadsheet."""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["csv_cell", "json_text", "line", "markdown_cell", "visible"]

_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Characters that begin a formula in spreadsheets (OWASP, CSV injection), including full-width ones."""

_MARKDOWN: Final = re.compile(r"[\\|`*<>\[\]~]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")


def visible(text: str, keep: str = "\n\t") -> str:
    """The text with invisible characters escaped: control characters (which terminals interpret), direction marks,
    zero-width characters and surrogates."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def line(text: str) -> str:
    """The text on one line."""
    return visible(text, keep="")


def csv_cell(value: Any) -> Any:
    """A CSV cell before quoting: empty if unknown; text that begins like a formula gets an apostrophe. Numbers are
    unchanged."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(_FORMULAS) else text


def markdown_cell(text: str) -> str:
    """A cell of a Markdown table."""
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", line(text))


def json_text(document: Any, indent: int | None = None, *, ascii_only: bool = False) -> str:
    """JSON with invisible characters escaped (`\\u001b`), or with `ascii_only` all non-ASCII characters."""
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    if text.replace("\n", "").isprintable():
        return text
    # the whole text can be escaped, as outside of strings JSON is plain ASCII
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
