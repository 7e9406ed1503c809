"""A small HTTP server for what `hf` asks of other hosts: each test says what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

__all__ = ["Answer", "Asked", "serving"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is sent back."""

    content: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked: method, path with its query, body, and the address of the server itself."""

    method: str
    path: str
    body: bytes
    server: str


@contextmanager
def serving(answer: Callable[[Asked], Answer]) -> Iterator[tuple[str, list[str]]]:
    """A server on a port of this machine: its address, and what it was asked so far as `GET /path`."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            seen.append(f"{self.command} {self.path}")
            asked = Asked(method=self.command, path=self.path, body=self.rfile.read(length), server=address)
            given = answer(asked)
            self.send_response(given.status)
            for name, value in {"Content-Length": str(len(given.content)), **given.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(given.content)

        do_GET = do_POST = do_HEAD = handle_any  # noqa: N815 - the names are the base class's

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield address, seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
