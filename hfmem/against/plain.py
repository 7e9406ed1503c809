"""Lines of logs without what terminals, containers and collectors put around them."""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["plain"]

_CONTROL: Final = r"(?:\x1b|\\u001b|\\x1b|\^\[)"  # as a byte, escaped, or as `cat -v` shows it
_COLOURS: Final = re.compile(
    rf"{_CONTROL}\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles and links
    rf"|{_CONTROL}\[[0-?]*[ -/]*[@-~]"
    r"|\[\d{1,3}(?:;\d{1,3})*m"  # what is left where the control character was lost
)
_TEXTS: Final = ("log", "message", "msg", "line", "textPayload", "MESSAGE", "body")
"""Where collectors keep the line: Docker's json-file, journald, Loki, Google Cloud, Fluent Bit, OpenTelemetry."""


def plain(text: str) -> str:
    """A line as the program printed it: without colours, and out of the JSON that Docker or a collector made of it."""
    stripped = text.strip()
    if stripped.startswith("{") and stripped.endswith("}"):
        text = _wrapped(stripped) or text
    return _COLOURS.sub("", text) if "\x1b" in text or "[" in text else text


def _wrapped(text: str) -> str | None:
    """The line in an object of a collector; None where it is none."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    lines = (found[name] for name in _TEXTS if isinstance(found.get(name), str))
    line: str | None = next(lines, None)
    return line
