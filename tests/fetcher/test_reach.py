"""Networks that are not there, and servers that are slow: what a run does with them, over real sockets."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
from huggingface_hub import constants

from hfmem.errors import ConnectionSettingsError, HfmemError, HubUnreachableError
from hfmem.fetcher import http, reach
from hfmem.fetcher.attempt import Attempt, StalledError, within
from hfmem.fetcher.concurrent import fetch_all
from hfmem.fetcher.reach import Reach
from hfmem.fetcher.values import Access, Checkpoint, ModelRef
from tests.command import process
from tests.fetcher.test_hub import CONFIG, ROWS, large, read, small
from tests.hub import Hub, crawling, single, stalled, status, trickling

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits of a tenth; what they are for stays."""
    for name in ("CONNECT", "TIMEOUT", "DEADLINE", "PATIENCE"):
        monkeypatch.setattr(http, name, getattr(http, name) / 10)
    monkeypatch.setattr(http, "_GRACE", 0.1)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a machine that drops what it is sent: a port whose queue of connections is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def run(*models: str, jobs: int = 8) -> list[Checkpoint | HfmemError]:
    refs = [ModelRef(model_id=model) for model in models]
    return [found for _, found in fetch_all(refs, Access(), jobs)]


def test_no_network_is_found_out_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the waits of a person's length: 200 models take as long as one."""
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    started = time.monotonic()
    found = run(*(f"org/m{number}" for number in range(200)))
    assert {type(each) for each in found} == {HubUnreachableError}
    assert {each.model for each in found if isinstance(each, HfmemError)} == {f"org/m{n}" for n in range(200)}
    assert time.monotonic() - started < 6


def test_a_network_that_is_silent_is_given_up_within_seconds(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", silent)
    started = time.monotonic()
    found = run("org/a", "org/b", "org/c", jobs=1)
    assert [str(each.reason) for each in found if isinstance(each, HubUnreachableError)] == [
        "no connection within 5 s"
    ] * 3
    assert time.monotonic() - started < 8


def test_a_network_that_is_back_is_asked_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put(small())
    known = Reach()
    known.unreachable(hub.url.partition("://")[2], "nothing there")
    client = http.client_for("org/small", None, lambda: True, known)
    with pytest.raises(HubUnreachableError, match="nothing there"):
        client.get(f"{hub.url}/api/models/org/small", limit=10)
    assert hub.requests == []
    monkeypatch.setattr(reach, "REMEMBERED", 0.0)
    known.unreachable(hub.url.partition("://")[2], "nothing there")
    assert client.get(f"{hub.url}/api/models/org/small", limit=10).status == 200


@pytest.mark.parametrize("fault", [crawling(every=0.1), trickling(piece=1, every=0.1)])
@pytest.mark.parametrize("pattern", ["/api/models/*", "*/config.json"])
@pytest.mark.usefixtures("impatient")
def test_an_answer_that_crawls_is_given_up(hub: Hub, fault: object, pattern: str) -> None:
    """Its head or its body: a byte now and then is no answer, and a second try would be none."""
    hub.put(single("org/small", CONFIG | {"padding": "x" * 1000}, ROWS))
    hub.fail(pattern, fault, times=None)
    started = time.monotonic()
    with pytest.raises(HubUnreachableError, match="stalled"):
        read("org/small")
    assert time.monotonic() - started < 4
    assert sum("/api/models" in path for path in hub.asked("hub")) == 1


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_comes_slowly_and_surely_is_awaited(hub: Hub) -> None:
    hub.put(single("org/small", CONFIG | {"padding": "x" * 3000}, ROWS))
    hub.fail("*/config.json", trickling(piece=100, every=0.05), times=None)
    assert len(read("org/small").config["padding"]) == 3000


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", [stalled(), crawling(every=0.1)])
def test_a_server_that_answers_nobody_is_left_alone(hub: Hub, fault: object) -> None:
    hub.fail("*", fault, times=None)
    started = time.monotonic()
    found = run(*(f"org/m{number}" for number in range(40)), jobs=4)
    assert {type(each) for each in found} == {HubUnreachableError}
    assert time.monotonic() - started < 10
    asked = {path.split("/")[4] for path in hub.asked("hub") if "/api/models/" in path}
    assert len(asked) <= 8


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", [stalled(), status(503)])
def test_one_model_that_is_not_answered_costs_the_others_nothing(hub: Hub, fault: object) -> None:
    hub.put(small("org/a"), large("org/b"), small("org/c"))
    hub.fail("*org/b*", fault, times=None)
    kinds = [type(each) for each in run("org/b", "org/a", "org/c", jobs=1)]
    assert kinds == [HubUnreachableError, Checkpoint, Checkpoint]


def test_a_deadline_holds_for_what_never_returns() -> None:
    attempt = Attempt()
    attempt.waits(0.1)
    started = time.monotonic()
    with pytest.raises(StalledError):
        within(attempt, lambda: time.sleep(2))
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("value", "package", "reason"),
    [
        ("socks5://user:pw@127.0.0.1:9", "socksio", "HTTP_PROXY names a SOCKS proxy, which needs the package socksio"),
        ("gopher://user:pw@x", "", "HTTP_PROXY .*is not a valid proxy address"),
    ],
)
def test_a_proxy_that_cannot_be_used(hub_env: dict[str, str], value: str, package: str, reason: str) -> None:
    """In a process of its own: a request that an earlier test left behind may make a client in this one."""
    if package and find_spec(package):
        pytest.skip("the package is there")
    done = process("org/small", "openai-community/gpt2", "--format", "json", env={**hub_env, "HTTP_PROXY": value})
    (error,), (result,) = map(json.loads(done.stdout).get, ("errors", "results"))
    assert error["error"] == "connection_settings_error"
    assert re.search(reason, error["message"])
    assert ("pip install socksio" in error["hint"]) == bool(package)
    assert "pw" not in done.stdout + done.stderr
    assert result["source"] == "catalog"
    assert re.search(reason, result["notes"][0])


def test_certificates_that_cannot_be_read(hub_env: dict[str, str]) -> None:
    done = process("org/small", env={**hub_env, "SSL_CERT_FILE": "/nowhere/certificates.pem"})
    assert done.returncode == 1
    assert re.search("the certificates of SSL_CERT_FILE .*cannot be read", done.stderr)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, ValueError, OSError, ImportError])
def test_a_client_that_cannot_be_made_is_no_end(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Whatever it raises: the catalog answers, and what only the Hub has is an error in words."""

    def broken() -> None:
        raise error("with a secret")

    monkeypatch.setattr(http, "get_session", broken)
    monkeypatch.setattr("hfmem.fetcher.hub.get_session", broken)
    known, unknown = run("openai-community/gpt2", "org/none")
    assert isinstance(known, Checkpoint)
    assert known.source == "catalog"
    assert isinstance(unknown, ConnectionSettingsError)
    assert "secret" not in f"{unknown} {known.notes}"


def test_a_stored_login_that_cannot_be_read(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe\xff")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    (found,) = run("org/none")
    assert isinstance(found, ConnectionSettingsError)
    assert "token, cannot be read: UnicodeDecodeError" in found.reason
