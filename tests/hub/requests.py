"""A request as the server saw it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

__all__ = ["Port", "Request"]

Port = Literal["hub", "cdn"]


@dataclass(slots=True, kw_only=True)
class Request:
    """A request and what became of it.

    Attributes:
        port: which of the two servers it reached.
        method: `GET`, `HEAD`, …
        path: percent-encoded as it was sent, without the query.
        query: what follows the question mark, as it was sent.
        headers: by lower-case name.
        arrived: clock of `time.monotonic`, in seconds.
        answered: the same for the end of the answer; None while it is under way.
        status: of the answer; None where there was none.
        sent: bytes of the body handed to the connection. Where the client hangs up early, its socket buffer may hold
            some of them unread.
    """

    port: Port
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    arrived: float
    answered: float | None = None
    status: int | None = None
    sent: int = 0

    @property
    def authorization(self) -> str | None:
        """The credentials that came with it."""
        return self.headers.get("authorization")

    @property
    def range(self) -> str | None:
        """The part that was asked for, as `bytes=0-99`."""
        return self.headers.get("range")

    @property
    def decoded_path(self) -> str:
        """The path with its percent signs resolved; what fault patterns are matched with."""
        return unquote(self.path)
