"""The Hub's two servers, the site and its CDN, on ports of this machine.

One thread runs one event loop for both: an answer costs a few dozen microseconds, a wait costs nothing, and a client
in another process is measured against a server that hardly uses the machine.
"""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import chain
from types import TracebackType
from typing import Any, Final, Self

from tests.hub.faults import Fault, Planned, rate_limited
from tests.hub.repos import Repo
from tests.hub.requests import Port, Request
from tests.hub.responses import CHUNK, Response
from tests.hub.site import WINDOW, Site, bucket_of

__all__ = ["Hub"]

_SMALL_BUFFER: Final = 32 * 1024  # of the sending socket, where it matters how much a client has really read


class Hub:
    """A Hugging Face Hub on this machine.

        with Hub([single("org/name", config, rows)]) as hub:
            HfApi(endpoint=hub.url).model_info("org/name")
            assert [request.path for request in hub.requests] == ["/api/models/org/name"]

    Attributes:
        latency: seconds before each answer, of both servers.
        quotas: requests that a bucket (`api`, `resolvers`) allows before it answers 429; not counted where it is not
            named. `reset` fills it again.
        window: seconds after which it is full again, in fixed windows from the first request on.
        site: what the Hub knows and how it answers: `site.tokens`, `site.sharded_endpoint`, `site.tree_page` and
            `site.compress` can be changed at any time.
    """

    def __init__(
        self,
        repos: Iterable[Repo] = (),
        *,
        latency: float = 0.0,
        tokens: Mapping[str, Iterable[str]] | None = None,
        sharded_endpoint: bool = True,
        tree_page: int = 1000,
        compress: bool = False,
        quotas: Mapping[str, int] | None = None,
        window: float = WINDOW,
    ) -> None:
        self.latency = latency
        self.quotas = dict(quotas or {})
        self.window = window
        self._begun = 0.0
        self.site = Site(
            tokens={token: set(names) for token, names in (tokens or {}).items()},
            sharded_endpoint=sharded_endpoint,
            tree_page=tree_page,
            compress=compress,
        )
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._planned: list[Planned] = []
        self._spent: list[Counter[str]] = []
        self._connections: set[_Connection] = set()
        self.put(*repos)

    @property
    def spent(self) -> list[dict[str, int]]:
        """Requests of each bucket with a quota, by window as it is counted here: from the first request on."""
        with self._lock:
            return [dict(window) for window in self._spent]

    @property
    def url(self) -> str:
        """Address of the site, for `HF_ENDPOINT`."""
        return self.site.url

    @property
    def cdn_url(self) -> str:
        """Address of the server that large files are redirected to."""
        return self.site.cdn_url

    @property
    def requests(self) -> list[Request]:
        """What was asked so far, in the order of arrival."""
        with self._lock:
            return list(self._requests)

    def asked(self, port: Port | None = None) -> list[str]:
        """Method and decoded path of each request so far, as `GET /api/models/org/name`."""
        return [f"{seen.method} {seen.decoded_path}" for seen in self.requests if port in (None, seen.port)]

    def put(self, *repos: Repo) -> None:
        """Add repositories, or push to them: what they held before stays under its commits."""
        with self._lock:
            for repo in repos:
                self.site.put(repo)

    def fail(self, pattern: str, fault: Fault, *, times: int | None = 1, port: Port | None = None) -> None:
        """Let the next requests fail whose decoded path fits a shell-style pattern; `*` also fits slashes.

        `*/resolve/*` is a file on the site, `/repos/*` its content on the CDN; both end with the file's name.

        Args:
            pattern: for the path, without the query.
            fault: what happens, from `tests.hub.faults`.
            times: how many requests fail; None is all of them.
            port: only requests that reach this server.
        """
        with self._lock:
            self._planned.append(Planned(pattern=pattern, fault=fault, left=times, port=port))

    def reset(self) -> None:
        """Forget requests, faults and used quotas. Repositories and settings stay."""
        with self._lock:
            self._requests.clear()
            self._planned.clear()
            self._spent.clear()
            self.site.left.clear()

    def start(self) -> None:
        """Open both ports."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hub", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    def stop(self) -> None:
        """Close both ports and all connections, answered or not."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _open(self) -> None:
        self._servers = [await self._listen("hub"), await self._listen("cdn")]
        self.site.url, self.site.cdn_url = (
            f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in self._servers
        )

    async def _listen(self, port: Port) -> asyncio.Server:
        return await self._loop.create_server(lambda: _Connection(self, port), "127.0.0.1", 0, backlog=512)

    async def _close(self) -> None:
        # A server that is closed while a connection is being accepted leaves it open, its client waiting for an answer
        # for ever: nothing is accepted any more, what was is awaited, and then the server is closed.
        for server in self._servers:
            for listening in server.sockets:
                self._loop.remove_reader(listening.fileno())
        accepting = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*accepting, return_exceptions=True)
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections):
            connection.abort()
        while self._connections:
            await asyncio.sleep(0)

    def decide(self, request: Request) -> tuple[Response | None, Fault | None]:
        """The answer to a request, and the fault that befalls it. Runs in the server's thread."""
        with self._lock:
            fault = self._fault(request)
            spent = self._refused(request)
            if fault is not None and fault.kind in ("dropped", "stalled"):
                return None, fault
            if fault is not None and fault.response is not None:
                limits = () if fault.bare else self.site.limits(request)
                return _with_defaults(fault.response, limits), fault
            if spent is not None:
                return spent, None
            if request.port == "hub":
                return self.site.answer(request), fault
            ignore_range = fault is not None and fault.kind == "ignored_range"
            return self.site.deliver(request, ignore_range=ignore_range), fault

    def arrived(self, request: Request) -> None:
        """Write a request down."""
        with self._lock:
            self._requests.append(request)

    def _fault(self, request: Request) -> Fault | None:
        for planned in self._planned:
            fits = planned.port in (None, request.port) and fnmatchcase(request.decoded_path, planned.pattern)
            if fits and planned.left != 0 and planned.fault.applies(request):
                planned.left = None if planned.left is None else planned.left - 1
                return planned.fault
        return None

    def _refused(self, request: Request) -> Response | None:
        """429 once a quota is used up."""
        bucket = bucket_of(request.path)
        if request.port == "cdn" or bucket not in self.quotas:
            return None
        now = time.monotonic()
        self._begun = self._begun or now
        if not self._spent or now - self._begun >= self.window:
            self._begun += (now - self._begun) // self.window * self.window
            self._spent.append(Counter())
        used = self._spent[-1][bucket] = self._spent[-1][bucket] + 1
        left = math.ceil(self._begun + self.window - now)
        self.site.left[bucket] = (max(0, self.quotas[bucket] - used), left, self.quotas[bucket])
        self.site.window = round(self.window)
        if used <= self.quotas[bucket]:
            return None
        return _with_defaults(rate_limited(left, bucket=bucket).response, self.site.limits(request))


class _Connection(asyncio.Protocol):
    """One connection of a client: requests in order, each answered before the next is read."""

    def __init__(self, hub: Hub, port: Port) -> None:
        self._hub = hub
        self._port = port
        self._buffer = bytearray()
        self._busy = False
        self._full = False
        self._pieces: Iterator[bytes] | None = None
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        transport.set_write_buffer_limits(high=CHUNK)
        self._hub._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pieces = None
        if self._timer is not None:
            self._timer.cancel()
        self._hub._connections.discard(self)

    def abort(self) -> None:
        """Close it now, whatever is under way."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._pieces is not None:
            # not from here: a transport that is closed in the middle of its own write would be closed twice
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_soon(self._pump)

    def _next(self) -> None:
        """Take the next request, if it is here and the one before is answered."""
        if self._busy or (request := self._take()) is None:
            return
        self._busy = True
        self._hub.arrived(request)
        if self._hub.latency:
            self._timer = self._loop.call_later(self._hub.latency, self._answer, request)
        else:
            self._answer(request)

    def _take(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        whole = end + 4 + int(headers.get("content-length", 0))
        if len(self._buffer) < whole:
            return None
        del self._buffer[:whole]
        method, target, _ = first.split(" ")
        path, _, query = target.partition("?")
        now = time.monotonic()
        return Request(port=self._port, method=method, path=path, query=query, headers=headers, arrived=now)

    def _answer(self, request: Request) -> None:
        if self._transport.is_closing():
            return
        response, fault = self._hub.decide(request)
        if response is None:
            if fault is not None and fault.kind == "dropped":
                self._transport.abort()
            return
        request.status = response.status
        head = response.wire_head()
        if request.method == "HEAD":
            self._finish(request, head)
        elif fault is None and response.size is not None and response.size <= CHUNK:
            body = response.body()
            request.sent = len(body)
            self._finish(request, head + body)
        else:
            self._stream(request, response, head, fault)

    def _stream(self, request: Request, response: Response, head: bytes, fault: Fault | None) -> None:
        """Send a body that is long or that something happens to."""
        pieces = response.chunks()
        if fault is not None and fault.kind == "crawling":
            pieces = chain((head,), pieces)
        else:
            self._transport.write(head)
        pause = 0.0
        if fault is not None and fault.kind == "cut":
            pieces = _first(pieces, (response.size or 0) // 2 if fault.after is None else fault.after)
        elif fault is not None and fault.every:
            pause = fault.every
            pieces = _small(pieces, fault.piece)
            self._buffer_little()
        self._pieces = pieces
        self._request, self._pause, self._cut = request, pause, fault is not None and fault.kind == "cut"
        self._pump()

    def _pump(self) -> None:
        if self._full or self._pieces is None or self._transport.is_closing():
            return
        if self._timer is not None:
            self._timer.cancel()
        piece = next(self._pieces, None)
        if piece is not None:
            # Written down first: the client may look as soon as it has the bytes.
            self._request.sent += len(piece)
            self._transport.write(piece)
            # One piece a turn of the loop: other connections are served in between.
            self._timer = (
                self._loop.call_later(self._pause, self._pump) if self._pause else self._loop.call_soon(self._pump)
            )
            return
        self._pieces = None
        if self._cut:
            self._transport.close()
        self._finish(self._request, b"")

    def _finish(self, request: Request, last: bytes) -> None:
        """Send the last bytes of an answer and turn to the next request."""
        request.answered = time.monotonic()
        self._transport.write(last)
        self._busy = False
        if request.headers.get("connection", "").lower() == "close":
            self._transport.close()
        elif self._buffer:
            self._loop.call_soon(self._next)

    def _buffer_little(self) -> None:
        """Keep what is sent close to what is read."""
        plain: Any = self._transport.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL_BUFFER)
        self._transport.set_write_buffer_limits(high=_SMALL_BUFFER)


def _with_defaults(response: Response, limits: tuple[tuple[str, str], ...]) -> Response:
    """A fault's answer with the headers every answer has, unless it brings its own."""
    own = {name.lower() for name, _ in response.headers}
    added = tuple(pair for pair in limits if pair[0].lower() not in own)
    return replace(response, headers=(*response.headers, *added))


def _first(pieces: Iterable[bytes], count: int) -> Iterator[bytes]:
    """The first so many bytes."""
    for piece in pieces:
        if count <= 0:
            return
        yield piece[:count]
        count -= len(piece)


def _small(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of at most `size`."""
    for piece in pieces:
        for start in range(0, len(piece), size):
            yield piece[start : start + size]
