"""How the local Hub sends bodies, how it fails on demand, and what it writes down."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from huggingface_hub import HfApi, get_session
from huggingface_hub.errors import (
    HfHubHTTPError,
)
from huggingface_hub.utils import parse_ratelimit_headers

from tests.hub import (
    Hub,
    Repo,
    crawling,
    cut,
    dropped,
    endless,
    html_page,
    ignored_range,
    rate_limited,
    safetensors_file,
    single,
    stalled,
    status,
    trickling,
    virtual_file,
)
from tests.hub.examples import CONFIG, MANY, ONE, ROWS, fetch


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """A client without a token."""
    return HfApi(endpoint=hub.url, token=False)


# Bodies


@pytest.mark.parametrize(
    ("asked", "code", "content_range", "length"),
    [
        ("bytes=0-99", 206, "bytes 0-99/{size}", 100),
        ("bytes=8-", 206, "bytes 8-{last}/{size}", -8),
        ("bytes=-5", 206, "bytes {last4}-{last}/{size}", 5),
        ("bytes=0-99999999999", 206, "bytes 0-{last}/{size}", 0),
        ("bytes=99999999999-", 416, "bytes */{size}", None),
        ("lines=1-2", 200, None, 0),
    ],
)
def test_ranges(hub: Hub, asked: str, code: int, content_range: str | None, length: int | None) -> None:
    hub.put(ONE)
    file = ONE.file("model.safetensors")
    assert file is not None
    _, headers, _ = fetch(f"{hub.url}/org/one/resolve/main/model.safetensors", {"Range": asked})
    found, headers, body = fetch(headers["location"], {"Range": asked})
    numbers = {"size": file.size, "last": file.size - 1, "last4": file.size - 5}
    assert (found, headers.get("content-range")) == (code, content_range and content_range.format(**numbers))
    if length is not None:
        assert len(body) == (length if length > 0 else file.size + length)


def test_a_file_of_685_gigabytes_costs_nothing(hub: Hub) -> None:
    hub.put(Repo(id="org/large", files=(virtual_file("model.safetensors", b"abc", size=685 * 10**9),)))
    url = f"{hub.url}/org/large/resolve/main/model.safetensors"
    answer = get_session().get(url, headers={"Range": f"bytes={685 * 10**9 - 4}-"})
    assert (answer.status_code, answer.content) == (206, bytes(4))
    assert get_session().get(url, headers={"Range": "bytes=1-4"}).content == b"bc\0\0"


def test_every_answer_of_the_hub_carries_its_quota(hub: Hub) -> None:
    hub.put(ONE)
    for path, bucket in [("/api/models/org/one", "api"), ("/org/one/resolve/main/none", "resolvers"), ("/x", "pages")]:
        found = parse_ratelimit_headers(fetch(hub.url + path)[1])
        assert found is not None
        assert (found.resource_type, found.window_seconds) == (bucket, 300)
        assert found.remaining > 0


def test_quotas_are_used_up(hub: Hub) -> None:
    hub.put(ONE)
    hub.quotas["api"] = 2
    codes = [fetch(f"{hub.url}/api/models/org/one")[0] for _ in range(3)]
    assert codes == [200, 200, 429]
    assert fetch(f"{hub.url}/org/one/resolve/main/config.json")[0] == 200


def test_compressed_answers_have_no_length(hub: Hub, api: HfApi) -> None:
    hub.put(MANY)
    hub.site.compress = True
    url = f"{hub.url}/api/models/org/many?blobs=true"
    _, headers, _ = fetch(url, {"Accept-Encoding": "gzip"})
    assert (headers["content-encoding"], headers["transfer-encoding"]) == ("gzip", "chunked")
    assert "content-length" not in headers
    assert api.model_info("org/many", files_metadata=True).sha == MANY.sha
    assert "content-encoding" not in fetch(url, {"Accept-Encoding": "identity"})[1]


@pytest.mark.parametrize("length", [120, 99_991, 100_000, 300_000])
def test_headers_of_any_length(hub: Hub, api: HfApi, length: int) -> None:
    repo = single("org/one", CONFIG, ROWS[1:], header_bytes=length)
    hub.put(repo)
    file = repo.file("model.safetensors")
    assert file is not None
    assert int.from_bytes(file.head[:8], "little") == length == len(file.head) - 8
    assert api.get_safetensors_metadata("org/one").parameter_count == {"F32": 7}


def test_a_header_cannot_be_padded_to_less() -> None:
    with pytest.raises(ValueError, match="takes"):
        safetensors_file("model.safetensors", ROWS, header_bytes=10)


# What goes wrong


def test_faults_befall_the_named_path_so_many_times(hub: Hub) -> None:
    hub.put(ONE)
    hub.fail("*/config.json", status(503), times=2)
    hub.fail("/api/models/*", status(500), times=None)
    config, info = f"{hub.url}/org/one/resolve/main/config.json", f"{hub.url}/api/models/org/one"
    assert [fetch(config)[0] for _ in range(3)] == [503, 503, 200]
    assert [fetch(info)[0] for _ in range(3)] == [500, 500, 500]
    hub.reset()
    assert fetch(info)[0] == 200


def test_rate_limits(hub: Hub, api: HfApi) -> None:
    hub.put(ONE)
    hub.fail("/api/*", rate_limited(55))
    with pytest.raises(HfHubHTTPError, match="429") as error:
        api.model_info("org/one")
    found = parse_ratelimit_headers(error.value.response.headers)
    assert found is not None
    assert (found.remaining, found.reset_in_seconds) == (0, 55)
    hub.fail("/api/*", rate_limited(None, retry_after=7))
    headers = fetch(f"{hub.url}/api/models/org/one")[1]
    assert headers["retry-after"] == "7"
    assert "ratelimit" not in headers


def test_a_page_for_people_instead_of_json(hub: Hub) -> None:
    hub.fail("/api/*", html_page())
    code, headers, body = fetch(f"{hub.url}/api/models/org/one")
    assert (code, headers["content-type"].partition(";")[0]) == (200, "text/html")
    assert body.startswith(b"<!doctype html>")


def test_dropped_connections(hub: Hub) -> None:
    hub.put(ONE)
    hub.fail("/api/*", dropped())
    with pytest.raises(httpx2.RemoteProtocolError):
        get_session().get(f"{hub.url}/api/models/org/one")
    assert get_session().get(f"{hub.url}/api/models/org/one").status_code == 200
    assert [request.status for request in hub.requests] == [None, 200]


def test_bodies_that_break_off(hub: Hub) -> None:
    hub.put(ONE)
    hub.fail("/api/*", cut(after=10))
    with pytest.raises(httpx2.RemoteProtocolError, match="complete message body"):
        get_session().get(f"{hub.url}/api/models/org/one")
    assert hub.requests[0].sent == 10


def test_stalled_requests(hub: Hub) -> None:
    hub.put(ONE)
    hub.fail("/api/*", stalled())
    with pytest.raises(httpx2.ReadTimeout):
        get_session().get(f"{hub.url}/api/models/org/one", timeout=0.1)


def test_a_hub_that_closes_ends_stalled_requests() -> None:
    hub = Hub()
    hub.start()
    hub.fail("*", stalled())
    with socket.create_connection(("127.0.0.1", urlsplit(hub.url).port or 0)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while not hub.requests:
            time.sleep(0.001)
        hub.stop()
        assert connection.recv(10) == b""


def test_a_hub_that_closes_ends_connections_that_it_is_accepting() -> None:
    for _ in range(20):
        hub = Hub()
        hub.start()
        port = urlsplit(hub.url).port or 0
        connections = [socket.socket() for _ in range(20)]
        for connection in connections:
            connection.settimeout(5)
            connection.connect(("127.0.0.1", port))
        hub.stop()
        for connection in connections:
            with connection, contextlib.suppress(ConnectionError):
                assert connection.recv(10) == b""


def test_an_ignored_range_sends_hardly_more_than_is_read(hub: Hub) -> None:
    hub.put(Repo(id="org/large", files=(virtual_file("model.safetensors", size=10**12),)))
    hub.fail("*", ignored_range())
    url = f"{hub.url}/org/large/resolve/main/model.safetensors"
    with get_session().stream("GET", url, headers={"Range": "bytes=0-99"}) as answer:
        assert (answer.status_code, answer.headers["content-length"]) == (200, str(10**12))
        read = 0
        for piece in answer.iter_bytes():
            read += len(piece)
            if read > 100_000:
                break
    assert read <= hub.requests[-1].sent < 2 * 2**20


def test_endless_and_trickling_bodies(hub: Hub) -> None:
    hub.put(ONE)
    hub.fail("/api/*", endless())
    with get_session().stream("GET", f"{hub.url}/api/models/org/one") as answer:
        assert sum(len(piece) for piece, _ in zip(answer.iter_bytes(), range(5), strict=False)) > 0
    hub.fail("*/config.json", trickling(piece=10, every=0.01))
    started = time.monotonic()
    assert get_session().get(f"{hub.url}/org/one/resolve/main/config.json").json() == CONFIG
    assert time.monotonic() - started > 0.05


def test_a_crawling_answer_has_a_slow_head(hub: Hub) -> None:
    hub.put(ONE)
    hub.fail("*/config.json", crawling(every=0.001))
    started = time.monotonic()
    with get_session().stream("GET", f"{hub.url}/org/one/resolve/main/config.json") as answer:
        assert time.monotonic() - started > 0.1
        answer.read()
    assert answer.json() == CONFIG


# The server


def test_latency_is_waited_once_for_requests_at_the_same_time(hub: Hub) -> None:
    hub.put(ONE)
    hub.latency = 0.2
    threads = [threading.Thread(target=fetch, args=(f"{hub.url}/api/models/org/one",)) for _ in range(8)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.2 <= time.monotonic() - started < 0.8
    assert all((request.answered or 0) - request.arrived >= 0.199 for request in hub.requests)


def test_requests_on_one_connection(hub: Hub) -> None:
    hub.put(ONE)
    ask = b"GET /org/one/resolve/main/config.json HTTP/1.1\r\nHost: hub\r\n\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(hub.url).port or 0)) as connection:
        connection.sendall(ask + ask[:20])
        connection.sendall(ask[20:] + ask.replace(b"Host: hub", b"Connection: close"))
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200 OK") == 3


def test_requests_are_recorded(hub: Hub, api: HfApi) -> None:
    hub.put(ONE)
    api.get_safetensors_metadata("org/one")
    last = hub.requests[-1]
    assert (last.port, last.method, last.status, last.range) == ("cdn", "GET", 206, "bytes=0-100000")
    assert last.path.endswith("/model.safetensors")
    file = ONE.file("model.safetensors")
    assert file is not None
    assert last.sent == file.size
    hub.reset()
    assert hub.requests == []


def test_a_process_of_its_own(hub_env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "tests.hub", "openai-community--gpt2"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root, env=hub_env
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        assert HfApi(endpoint=url).model_info("openai-community/gpt2").sha
        process.stdin.write("count\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"hub": 1, "cdn": 0}
        process.stdin.close()
        assert process.wait(timeout=10) == 0
