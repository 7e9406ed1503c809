"""Names come from files and from other people: each format writes them by its own rules, so that no name can break a
row, give a terminal a command or a spreadsheet a formula."""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["csv_cell", "json_text", "line", "markdown_cell", "visible"]

_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What spreadsheets take for the beginning of a formula (OWASP, CSV injection), the full-width signs too."""

_MARKDOWN: Final = re.compile(r"[\\|`*<>\[\]~]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")


def visible(text: str, keep: str = "\n\t") -> str:
    """The text with what cannot be seen written as an escape: control characters (a terminal would obey them), marks
    that turn the direction of writing, characters without width, halves of characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def line(text: str) -> str:
    """The text on one line."""
    return visible(text, keep="")


def csv_cell(value: Any) -> Any:
    """A cell of CSV, before it is quoted: nothing for what is unknown, and text that begins as a formula does has an
    apostrophe before it. Numbers stay numbers."""
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
    """JSON, in which what cannot be seen is an escape of JSON's (`\\u001b`), or with `ascii_only` all but ASCII."""
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    if text.replace("\n", "").isprintable():
        return text
    # only strings can hold such characters: the rest of JSON is plain ASCII
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
