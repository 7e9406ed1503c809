"""Answers as values, and how they are written to a connection."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from http import HTTPStatus
from typing import Final

__all__ = ["CHUNK", "Response", "html_response", "json_response", "text_response"]

CHUNK: Final = 256 * 1024
_ZEROS: Final = bytes(CHUNK)
_WORTH_COMPRESSING: Final = 1000  # bytes, as the CDN in front of the real Hub has it

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer.

    Attributes:
        status: the number.
        headers: names and values, without those that describe the length.
        head: the bytes the body begins with.
        size: length of the body; what lies behind `head` is zeros. None is an endless body of `head`, over and over.
        framed: `head` is a whole body in chunked transfer coding.
    """

    status: int
    headers: Headers = ()
    head: bytes = b""
    size: int | None = 0
    framed: bool = False

    def plus(self, *headers: tuple[str, str]) -> Response:
        """The same answer with these headers exchanged or added."""
        names = {name.lower() for name, _ in headers}
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in names)
        return replace(self, headers=(*kept, *headers))

    def wire_head(self) -> bytes:
        """Status line and headers."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        chunked = self.size is None or self.framed
        lines.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {self.size}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def chunks(self) -> Iterator[bytes]:
        """The body, in pieces."""
        if self.size is None:
            frame = b"%x\r\n" % len(self.head) + self.head + b"\r\n"
            while True:
                yield frame
        view = memoryview(self.head)[: self.size]
        for start in range(0, len(view), CHUNK):
            yield bytes(view[start : start + CHUNK])
        left = self.size - len(view)
        while left > 0:
            yield _ZEROS[:left]
            left -= CHUNK

    def body(self) -> bytes:
        """The whole body, where it ends."""
        return self.head[: self.size] + bytes(max((self.size or 0) - len(self.head), 0))

    def compressed(self) -> Response:
        """The same answer as the real Hub's CDN compresses it: gzip, and no length beforehand."""
        if self.size != len(self.head) or self.size < _WORTH_COMPRESSING or self.framed:
            return self
        body = _gzip_frame(self.head)
        return replace(self, head=body, size=len(body), framed=True).plus(("Content-Encoding", "gzip"))


def json_response(status: int, body: bytes, *headers: tuple[str, str]) -> Response:
    """An answer with a body that is already JSON."""
    content_type = ("Content-Type", "application/json; charset=utf-8")
    return Response(status=status, headers=(content_type, *headers), head=body, size=len(body))


def text_response(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """An answer in plain text."""
    body = text.encode()
    content_type = ("Content-Type", "text/plain; charset=utf-8")
    return Response(status=status, headers=(content_type, *headers), head=body, size=len(body))


def html_response(status: int, html: str) -> Response:
    """A page for people."""
    body = html.encode()
    return Response(status=status, headers=(("Content-Type", "text/html; charset=utf-8"),), head=body, size=len(body))


@lru_cache(maxsize=64)
def _gzip_frame(body: bytes) -> bytes:
    packed = gzip.compress(body, compresslevel=5, mtime=0)
    return b"%x\r\n" % len(packed) + packed + b"\r\n0\r\n\r\n"
