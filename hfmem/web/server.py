"""The page's server: Gradio's, with its queue, API and tools for agents, behind a gate that lets only through what the
page needs."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import parse_qsl

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # visitors' doings are nobody's business
os.environ.setdefault("GRADIO_RUN_HISTORY", "False")

import asyncio

import gradio
from fastapi import Request
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from hfmem import __version__
from hfmem.errors import InvalidScenarioError
from hfmem.refusals.visits import BusyError
from hfmem.web.answer import answer_html
from hfmem.web.api import endpoints, token_of
from hfmem.web.models import Models
from hfmem.web.page import POLICY, asset, page
from hfmem.web.question import Question
from hfmem.web.service import Answer, Service, problem_of

__all__ = ["build", "launch"]

_WORKERS: Final = 4
_WAITING: Final = 64  # answers that are begun or waited for; beyond that a visitor is told to come again
_PATIENCE: Final = 60  # seconds for an answer; a slow Hub is given up by the fetcher before
_LONGEST_BODY: Final = 64 * 1024  # bytes of a request

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


class Gate:
    """Lets through what the page, its API and its tools need, and no upload, file or proxy of the server below; and no
    request of any size. It adds the headers that keep a browser to the page."""

    _PAGE: Final = frozenset({"/", "/answer", "/json", "/suggest", "/page.css", "/page.js", "/favicon.ico"})
    _API: Final = ("info", "openapi.json", "call/", "queue/", "mcp", "startup-events", "heartbeat/", "app_id")

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._is_open(scope["path"]):
            await PlainTextResponse("Not found", status_code=404)(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > _LONGEST_BODY:
            await PlainTextResponse("Too large", status_code=413)(scope, receive, send)
            return
        await self._app(scope, _bounded(receive), _marked(send))

    def _is_open(self, path: str) -> bool:
        if path in self._PAGE or path == "/config":
            return True
        below = path.removeprefix("/gradio_api/")
        return below != path and below.startswith(self._API)


def _bounded(receive: _Receive) -> _Receive:
    """The messages of a request, which ends where it is longer than it may be."""
    seen = 0

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > _LONGEST_BODY else message

    return bounded


def _marked(send: _Send) -> _Send:
    async def marked(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_HEADERS]
        await send(message)

    return marked


_HEADERS: Final = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
]


class _Desk:
    """Answers in a few threads, so that many visitors share the machine and none waits without an end."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._pool = ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="hfmem-web")
        self._begun = 0

    async def drawn(self, query: str, token: str | None, draw: Callable[[Answer], str]) -> str:
        """An answer, drawn in a thread."""
        if self._begun >= _WAITING:
            return draw(_refused(BusyError()))

        def work() -> str:
            return draw(self._answer(query, token))

        self._begun += 1
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: self._left())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), _PATIENCE)
        except TimeoutError:
            return draw(_refused(BusyError(_PATIENCE)))

    def _left(self) -> None:
        self._begun -= 1

    def _answer(self, query: str, token: str | None) -> Answer:
        try:
            return self._service.answer(Question.of(parse_qsl(query, max_num_fields=200)), token)
        except InvalidScenarioError as error:
            return _refused(error)
        except ValueError:  # more fields than anyone needs
            return _refused(BusyError())


def _refused(error: InvalidScenarioError) -> Answer:
    return Answer(question=Question(models=()), problems=(problem_of(error),))


def _routes(service: Service, desk: _Desk) -> tuple[tuple[str, str, Callable[..., Awaitable[Response]]], ...]:
    """What the page itself asks for."""

    async def whole(request: Request) -> Response:
        return HTMLResponse(await desk.drawn(request.url.query, None, page), headers=_FRESH)

    async def part(request: Request) -> Response:
        query = (await request.body()).decode("utf-8", "replace")
        return HTMLResponse(await desk.drawn(query, token_of(request), answer_html), headers=_FRESH)

    async def document(request: Request) -> Response:
        text = await desk.drawn(request.url.query, token_of(request), Answer.json)
        return Response(text, media_type="application/json", headers=_FRESH)

    async def suggest(q: str = "") -> Response:
        return JSONResponse(list(await asyncio.to_thread(service.models.suggested, q[:200])))

    async def style() -> Response:
        return Response(asset("page.css"), media_type="text/css", headers=_KEPT)

    async def script() -> Response:
        return Response(asset("page.js"), media_type="text/javascript", headers=_KEPT)

    return (
        ("/", "GET", whole),
        ("/answer", "POST", part),
        ("/json", "GET", document),
        ("/suggest", "GET", suggest),
        ("/page.css", "GET", style),
        ("/page.js", "GET", script),
    )


_FRESH: Final = {"Cache-Control": "no-store"}
_KEPT: Final = {"Cache-Control": "public, max-age=3600"}


def build(service: Service) -> gradio.Server:
    """The server of a page, not started yet."""
    app = gradio.Server(title="hfmem", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.add_middleware(Gate)
    for path, method, answers in _routes(service, _Desk(service)):
        app.add_api_route(path, answers, methods=[method], response_model=None)
    for endpoint in endpoints(service, gradio.Request):
        app.api(endpoint.function, name=endpoint.name, concurrency_limit=_WORKERS, concurrency_id="hfmem")
    return app


def launch(  # noqa: PLR0913 - the options of `hfmem-web`
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    offline: bool = False,
    private: bool = False,
    browser: bool = False,
    wait: bool = True,
) -> tuple[gradio.Server, str]:
    """Serve the page.

    Args:
        host: the address to listen at; 0.0.0.0 for all.
        port: the port; None for the first free one from 7860.
        offline: do not ask the Hub.
        private: nobody but its owner can open the page, so that this machine's login, caches, files and accelerators
            may be used.
        browser: open it.
        wait: until it is interrupted.

    Returns:
        The server and its address.
    """
    app = build(Service(models=Models(offline=offline, private=private)))
    _, address, _ = app.launch(
        server_name=host, server_port=port, prevent_thread_lock=True, inbrowser=browser, quiet=not wait, **_SETTINGS
    )
    blocks = app.get_blocks()
    _finish(blocks)
    if wait:
        blocks.block_thread()
    return app, address


_SETTINGS: Final[dict[str, Any]] = {
    "share": False,
    "mcp_server": True,
    "run_history": False,
    "enable_monitoring": False,
    "max_file_size": "1b",
    "ssr_mode": False,
    "pwa": False,
}
"""What of Gradio the page has, and what not."""


def _finish(blocks: Any) -> None:
    """Set what `launch` has no parameter for, on what it has made."""
    # without a bound, calls that nobody waits for fill the memory
    blocks._queue.max_size = _WAITING
    # tools answer with JSON: Gradio's own text of a dictionary is Python's, with None and True in it
    blocks.mcp_server_obj.postprocess_output_data = _texts


def _texts(data: Iterable[Any], _: str) -> list[Any]:
    from mcp.types import TextContent

    return [TextContent(type="text", text=json.dumps(output, ensure_ascii=False)) for output in data]
