"""What can go wrong between a client and the Hub, on demand: `hub.fail("/api/models/*", rate_limited(1), times=2)`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Literal

from tests.hub.requests import Port, Request
from tests.hub.responses import Response, html_response, json_response

__all__ = [
    "Fault",
    "crawling",
    "cut",
    "dropped",
    "endless",
    "html_page",
    "ignored_range",
    "rate_limited",
    "stalled",
    "status",
    "trickling",
]

Kind = Literal["answer", "dropped", "cut", "stalled", "ignored_range", "trickling", "crawling"]

PACE: Final = 0.001
"""Seconds between the pieces of a body that never ends, so that hardly more is sent than the client reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to fail.

    Attributes:
        kind: what happens.
        response: the answer instead of the true one, where there is one.
        after: bytes of the body that still arrive; None is half of them.
        every: seconds between pieces of the body.
        piece: bytes a piece.
        bare: the answer carries no RateLimit headers.
    """

    kind: Kind
    response: Response | None = None
    after: int | None = None
    every: float = 0.0
    piece: int = 16 * 1024
    bare: bool = False

    def applies(self, request: Request) -> bool:
        """Whether the request can fail in this way: a range can only be ignored where one was asked for, by the server
        that has the content."""
        return self.kind != "ignored_range" or (request.range is not None and request.port == "cdn")


@dataclass(slots=True, kw_only=True)
class Planned:
    """A fault that waits for its requests.

    Attributes:
        pattern: shell-style, for the decoded path.
        fault: what happens to them.
        left: how many more of them fail; None is all.
        port: only those that reach this server; None is both.
    """

    pattern: str
    fault: Fault
    left: int | None
    port: Port | None


def status(code: int, message: str = "", *, bare: bool = False) -> Fault:
    """An answer with this status and nothing useful in it."""
    body = json.dumps({"error": message or "Internal Error - We're working hard to fix this as soon as possible!"})
    return Fault(kind="answer", response=json_response(code, body.encode()), bare=bare)


def rate_limited(seconds: int | None = 55, *, retry_after: int | str | None = None, bucket: str = "api") -> Fault:
    """429.

    Args:
        seconds: until the quota is full again, in the RateLimit header. None leaves that header out, as the CDN's edge.
        retry_after: value of Retry-After, if it is to be there. The real Hub was never seen to send it.
        bucket: the quota that is used up.
    """
    body = json.dumps({"error": "We had to rate limit your IP. To continue using our service, create a HF account."})
    response = json_response(429, body.encode())
    if seconds is not None:
        response = response.plus(("RateLimit", f'"{bucket}";r=0;t={seconds}'))
    if retry_after is not None:
        response = response.plus(("Retry-After", str(retry_after)))
    return Fault(kind="answer", response=response, bare=seconds is None)


def html_page(code: int = 200) -> Fault:
    """A page for people where an answer for programs should be, as from a captive portal."""
    return Fault(kind="answer", response=html_response(code, "<!doctype html><title>Welcome</title><p>Log in."))


def endless(fill: bytes = b" " * 4096) -> Fault:
    """200 with a body that never ends."""
    headers = (("Content-Type", "application/octet-stream"),)
    return Fault(kind="answer", response=Response(status=200, headers=headers, head=fill, size=None), every=PACE)


def ignored_range() -> Fault:
    """The whole file where a part of it was asked for: 200, however many gigabytes."""
    return Fault(kind="ignored_range", every=PACE)


def dropped() -> Fault:
    """The connection is closed without an answer."""
    return Fault(kind="dropped")


def cut(after: int | None = None) -> Fault:
    """The connection is closed in the middle of the body, or after so many bytes of it."""
    return Fault(kind="cut", after=after)


def stalled() -> Fault:
    """The request is taken and never answered."""
    return Fault(kind="stalled")


def trickling(*, piece: int = 1, every: float = 0.05) -> Fault:
    """The true answer, a few bytes at a time."""
    return Fault(kind="trickling", piece=piece, every=every)


def crawling(*, every: float = 0.05) -> Fault:
    """The true answer a byte at a time, its head as well."""
    return Fault(kind="crawling", piece=1, every=every)
