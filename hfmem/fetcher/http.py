"""Requests to the Hub through `huggingface_hub`'s session, limited in bytes and time, and retried where useful.

`huggingface_hub.utils.http_backoff` is not used: it waits as long as the server requests, without limit, closes the
shared client on a connection error while other threads use it, and reads bodies of any length.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import httpx2
import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.errors import RevisionNotFoundError as HubRevisionNotFoundError
from huggingface_hub.utils import get_session, hf_raise_for_status, parse_ratelimit_headers

from hfmem import __version__
from hfmem.errors import (
    AccessDeniedError,
    ConnectionSettingsError,
    DisabledModelError,
    GatedModelError,
    HfmemError,
    HubUnreachableError,
    InvalidFileError,
    InvalidTokenError,
    ModelNotFoundError,
    OfflineError,
    RateLimitedError,
    RevisionNotFoundError,
    UnexpectedAnswerError,
)
from hfmem.fetcher.attempt import Attempt, NoConnectionError, StalledError, within
from hfmem.fetcher.reach import Reach

__all__ = ["Answer", "Client", "FileMissingError", "client_for", "stored_token"]

TRIES: Final = 3
CONNECT: Final = 5.0  # seconds to establish a connection
TIMEOUT: Final = 10.0  # seconds without a byte (as HF_HUB_DOWNLOAD_TIMEOUT), and for response headers
DEADLINE: Final = 60.0  # seconds for one response of any length
SLOWEST: Final = 1024  # minimum bytes per second of a response that takes longer than `TIMEOUT`
PATIENCE: Final = 15.0  # seconds after which failed connections are not retried
_LEAST_ENOUGH: Final = 2**20  # bytes of a body that are read before it is asked whether they are enough
LONGEST_WAIT: Final = 60  # seconds: longer rate-limit waits are reported as errors
_UNNOTICED: Final = 2  # seconds: shorter waits are not announced
_GRACE: Final = 1.0  # seconds added to our deadlines, so that the client's own timeouts, with better errors, come first
_MOST_REDIRECTS: Final = 10
_LONGEST_REFUSAL: Final = 65_536  # bytes of an error body that are read, so that the connection can be reused
_MOST_BYTES: Final = 128 * 2**20  # of all responses for a model together; headers take some tens of MB at most
_log = logging.getLogger("hfmem")
_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})


class FileMissingError(Exception):
    """The repository has no such file (404); the caller decides how to handle it."""


class Answer(NamedTuple):
    """A successful response.

    Attributes:
        content: the body, up to the requested limit.
        status: 200, or 206 for a range.
        commit: the commit of the file (`X-Repo-Commit`), if the response has it.
        size: bytes of the whole file, for a range (`Content-Range`).
        following: address of the next page of a listing (`Link`), if there is one.
    """

    content: bytes
    status: int
    commit: str | None
    size: int | None = None
    following: str | None = None


class _Hop(NamedTuple):
    """The response of one host: success, error, or a redirect to `target`."""

    status: int
    content: bytes
    commit: str | None
    size: int | None
    target: str | None
    response: httpx2.Response


_NeverConnected = NoConnectionError | httpx2.ConnectTimeout
"""No connection within `CONNECT` seconds; not retried, as that would only take longer."""


@dataclass(slots=True)
class _Received:
    """The bytes of all responses for a model, over all threads."""

    total: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, nbytes: int) -> int:
        """Add the bytes of a response, and return the total."""
        with self.lock:
            self.total += nbytes
            return self.total


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Requests on behalf of one model.

    Attributes:
        model: the requested model, for errors.
        headers: as from `build_hf_headers`; `Authorization` is dropped when a redirect leaves the Hub.
        abandoned: set when responses are no longer needed, so that waiting requests end.
        reach: hosts that do not respond in this run.
        received: bytes received so far.
        moved: where ranges of a file were redirected to, by its address: later ranges are requested there.
        patient: whether to retry when the Hub cannot be reached (no, if there is a local answer).
    """

    model: str
    headers: Mapping[str, str]
    reach: Reach = field(default_factory=Reach)
    patient: Callable[[], bool] = lambda: True
    abandoned: threading.Event = field(default_factory=threading.Event)
    received: _Received = field(default_factory=_Received)
    moved: dict[str, str] = field(default_factory=dict)

    def get(
        self,
        url: str,
        *,
        limit: int,
        span: tuple[int, int] | None = None,
        enough: Callable[[bytes], bool] | None = None,
    ) -> Answer:
        """The body of `url`, or of its bytes `span` (first, last); never more than `limit` bytes are read.

        Args:
            url: the address.
            limit: bytes that are read at most.
            span: of the body.
            enough: whether the first MiB is all that is needed; the rest of the body is then not read.

        Raises:
            FileMissingError: 404 for a file.
            HfmemError: any other failure.
        """
        headers = dict(self.headers)
        if span is not None:
            headers["Range"] = f"bytes={span[0]}-{span[1]}"
        return self._tried(url, headers, _Part(limit=limit, enough=enough))

    def _tried(self, url: str, headers: Mapping[str, str], part: _Part) -> Answer:
        """The part of a body, asked for again where that is useful."""
        tries, begun = 0, time.monotonic()
        while True:
            tries += 1
            attempt = Attempt()
            try:
                return self._once(url, headers, part, attempt)
            except OfflineModeIsEnabled as error:
                raise OfflineError(self.model, "offline mode is on") from error
            except HfHubHTTPError as error:
                wait = self._wait_for(error, tries)
                if wait is None:
                    self._remember_refusal(attempt.host, error.response.status_code)
                    raise self._translated(error) from error
            except (httpx2.TransportError, NoConnectionError, StalledError) as error:
                late = self.reach.budget is None and time.monotonic() - begun > PATIENCE
                wait = None if late else self._wait_after(error, tries)
                if wait is None:
                    self._remember(attempt.host, error, tries)
                    raise HubUnreachableError(self.model, _words(error)) from error
            except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
                raise UnexpectedAnswerError(self.model, type(error).__name__) from error
            if pause(self.abandoned, wait):
                raise HubUnreachableError(self.model, "given up")

    def _once(self, url: str, headers: Mapping[str, str], part: _Part, attempt: Attempt) -> Answer:
        """One response: from where an earlier range of the file came from, else from the Hub."""
        if url not in self.moved:
            return self._followed(url, headers, part, attempt)
        bare = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        try:
            return self._followed(self.moved[url], bare, part, attempt)
        except HfHubHTTPError:  # signed addresses expire
            self.moved.pop(url, None)
            return self._followed(url, headers, part, attempt)

    def _followed(self, url: str, headers: Mapping[str, str], part: _Part, attempt: Attempt) -> Answer:
        """One response, following redirects here: limited in bytes and time, and without sending the token
        to other hosts. The session would read bodies of redirects and errors of any length."""
        commit: str | None = None
        first = url
        for _ in range(_MOST_REDIRECTS):
            asked = httpx2.URL(url)
            if down := self.reach.down(asked.netloc.decode("ascii")):
                raise HubUnreachableError(self.model, down)
            found = self._hop(asked, headers, part, attempt)
            commit = commit or found.commit
            if self.received.add(len(found.content)) > _MOST_BYTES:
                raise InvalidFileError(self.model, f"its headers take more than {_MOST_BYTES >> 20} MiB")
            if found.target is None:
                if url != first and "Range" in headers:
                    self.moved[first] = url
                following = found.response.links.get("next", {}).get("url")
                return Answer(
                    content=found.content, status=found.status, commit=commit, size=found.size, following=following
                )
            there = asked.join(found.target)
            if (there.scheme, there.host, there.port) != (asked.scheme, asked.host, asked.port):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            url = str(there)
        raise UnexpectedAnswerError(self.model, "the server redirects in a circle")

    def _hop(self, url: httpx2.URL, headers: Mapping[str, str], part: _Part, attempt: Attempt) -> _Hop:
        """The response of one host."""
        session = _session(self.model)
        host = url.netloc.decode("ascii")

        def ask() -> _Hop:
            with session.stream(
                "GET",
                url,
                headers=headers,
                timeout=httpx2.Timeout(TIMEOUT, connect=CONNECT),
                follow_redirects=False,
                extensions={"trace": attempt.tracer(TIMEOUT + _GRACE)},
            ) as response:
                return _received(response, part, attempt)

        def asked() -> _Hop:
            attempt.asks(host, CONNECT + _GRACE)
            return within(attempt, ask)

        found = self._planned(url, asked)
        if found.status < 500:
            self.reach.answered(host)
        if found.status >= 400:
            _raise_for_status(found)
        return found

    def _planned(self, url: httpx2.URL, asked: Callable[[], _Hop]) -> _Hop:
        """The response to a request, once the Hub's quotas allow it, in runs that keep them by planning."""
        budget = self.reach.budget if str(url).startswith(f"{constants.ENDPOINT}/") else None
        if budget is None:
            return asked()
        if not budget.take(url.path, self.abandoned):
            raise HubUnreachableError(self.model, "given up")
        told: Mapping[str, str] | None = None
        try:
            found = asked()
            told = found.response.headers
        finally:
            budget.answered(url.path, told)
        return found

    def _remember(self, host: str, error: Exception, tries: int) -> None:
        """Record a host that did not respond, for other requests of the run."""
        if isinstance(error, _NeverConnected) or (
            tries > 1 and isinstance(error, httpx2.ConnectError | httpx2.ProxyError)
        ):
            self.reach.unreachable(host, _words(error))
        else:
            self.reach.failed(host, self.model, _words(error))

    def _remember_refusal(self, host: str, status: int) -> None:
        if status >= 500:
            self.reach.failed(host, self.model, f"the server answered {status}")

    def _wait_for(self, error: HfHubHTTPError, tries: int) -> float | None:
        """Seconds to wait before a retry after an error response; None to give up."""
        status = error.response.status_code
        if status not in _RETRIED or tries >= TRIES:
            return None
        told = _told_wait(error)
        if told is None:
            return float(2 ** (tries - 2))
        if status == 429 and self.reach.budget is not None:
            return told + 1.0  # such a run waits for the next window anyway
        if told > LONGEST_WAIT or (told > _UNNOTICED and not self.patient()):
            return None
        if told > _UNNOTICED:
            _log.warning("Waiting %d s for the Hub: it allows no more requests until then.", told + 1)
        return told + 1.0

    def _wait_after(self, error: Exception, tries: int) -> float | None:
        """Seconds to wait before a retry after a connection error; None to give up."""
        slow = isinstance(error, httpx2.ConnectError | httpx2.TimeoutException | httpx2.ProxyError)
        hopeless = isinstance(error, StalledError | _NeverConnected)
        if hopeless or tries >= TRIES or (slow and not self.patient()):
            return None
        return float(2 ** (tries - 2))

    def _translated(self, error: HfHubHTTPError) -> Exception:
        """The error as an HfmemError."""
        response = error.response
        message = response.headers.get("X-Error-Message", "")
        for kind, ours in _KINDS:
            if isinstance(error, kind):
                return ours(self.model, message)
        if isinstance(error, GatedRepoError):
            return GatedModelError(self.model, message, authenticated="authorization" in response.request.headers)
        return _by_status(self.model, error)


def client_for(
    model: str,
    token: str | None,
    patient: Callable[[], bool],
    reach: Reach | None = None,
    *,
    login: bool = True,
) -> Client:
    """A client with the user's token: the one given, else, with `login`, `HF_TOKEN` or the stored login.

    `build_hf_headers` is not used: it first requests a list of telemetry labels from the Hub, which costs a round trip.
    """
    try:
        found = (token or (stored_token() if login else None) or "").strip()
    except (OSError, ValueError) as error:
        reason = f"the stored login, {constants.HF_TOKEN_PATH}, cannot be read: {type(error).__name__}"
        raise ConnectionSettingsError(model, reason) from error
    if not (found.isascii() and found.isprintable()):
        raise InvalidTokenError(model, "it has characters that are not allowed in tokens")
    headers = {"user-agent": f"hfmem/{__version__}; hf_hub/{huggingface_hub.__version__}"}
    if found:
        headers["authorization"] = f"Bearer {found}"
    return Client(model=model, headers=headers, patient=patient, reach=reach or Reach())


def stored_token() -> str | None:
    """The user's token, as found by `huggingface_hub.get_token`, which is imported only if there may be a token, as the
    import takes as long as a request."""
    named = any(os.environ.get(name) for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"))
    notebook = "IPython" in sys.modules  # Colab stores tokens itself
    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN or not (named or notebook or _is_file(constants.HF_TOKEN_PATH)):
        return None
    from huggingface_hub import get_token

    return get_token()


def _is_file(path: str) -> bool:
    """Whether the file exists; False if that cannot be determined."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def pause(abandoned: threading.Event, seconds: float) -> bool:
    """Wait before a retry; returns True at once if the response is no longer needed."""
    return abandoned.wait(seconds)


def _received(response: httpx2.Response, part: _Part, attempt: Attempt) -> _Hop:
    """Read the body of a response whose headers have arrived; of errors only the beginning."""
    attempt.waits(DEADLINE + _GRACE)
    target = response.headers.get("Location") if 300 <= response.status_code < 400 else None
    wanted = part if response.status_code < 400 else _Part(limit=_LONGEST_REFUSAL)
    return _Hop(
        status=response.status_code,
        content=_body(response, wanted) if target is None else b"",
        commit=response.headers.get("X-Repo-Commit"),
        size=_whole_size(response),
        target=target,
        response=response,
    )


class _Part(NamedTuple):
    """What is read of a body.

    Attributes:
        limit: bytes, at most.
        enough: whether what was read so far is all that is needed; asked once, after the first MiB.
    """

    limit: int
    enough: Callable[[bytes], bool] | None = None


def _body(response: httpx2.Response, part: _Part) -> bytes:
    """The wanted part of a body, unless it is too slow."""
    begun, body, asked = time.monotonic(), bytearray(), False
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) >= part.limit:
            break
        if part.enough is not None and not asked and len(body) >= _LEAST_ENOUGH:
            if part.enough(bytes(body)):
                break
            asked = True
        seconds = time.monotonic() - begun
        if seconds > DEADLINE or (seconds > TIMEOUT and len(body) < SLOWEST * seconds):
            raise StalledError
    return bytes(body[: part.limit])


def _whole_size(response: httpx2.Response) -> int | None:
    """Bytes of the whole file, from `Content-Range` (RFC 9110, 14.4: `bytes 0-99/12345`); None if absent."""
    size = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(size) if size.isascii() and size.isdecimal() and len(size) < 20 else None


def _raise_for_status(found: _Hop) -> None:
    """Raise huggingface_hub's exception for an error response, from its status and relevant headers. The body is left
    out, as huggingface_hub fails on bodies in another format than the Hub's."""
    headers = {
        name: value
        for name, value in found.response.headers.items()
        if name.lower() in _TOLD and not (name.lower() in _COUNTED and _NO_COUNT.search(value))
    }
    hf_raise_for_status(httpx2.Response(found.status, headers=headers, request=found.response.request))


_COUNTED: Final = ("ratelimit", "ratelimit-policy")
_NO_COUNT: Final = re.compile(r"\d{10}")
"""An implausible number of requests or seconds (300 years)."""

_TOLD: Final = ("x-error-code", "x-error-message", "retry-after", *_COUNTED)
"""Headers that describe an error."""


def _session(model: str) -> httpx2.Client:
    """The session that all requests share.

    Raises:
        ConnectionSettingsError: a proxy or certificates in the environment are not available, or the client cannot be
            created for another reason.
    """
    try:
        return get_session()
    except ImportError as error:
        names = [name for name in _PROXIES if os.environ.get(name, "").lower().startswith("socks")]
        reason = f"{' and '.join(names[:1]) or 'the environment'} names a SOCKS proxy, which needs the package socksio"
        raise ConnectionSettingsError(model, reason, package="socksio") from error
    except OSError as error:
        names = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
        reason = f"the certificates of {' and '.join(names) or 'this machine'} cannot be read"
        raise ConnectionSettingsError(model, reason) from error
    except Exception as error:  # its message is not shown, as it may contain a password
        named = [name for name in _PROXIES if os.environ.get(name)]
        known = named and isinstance(error, ValueError | httpx2.InvalidURL)
        reason = "the HTTP client cannot be created: " + type(error).__name__
        reason = f"{' or '.join(named)} is not a valid proxy address" if known else reason
        raise ConnectionSettingsError(model, reason) from error


_PROXIES: Final = tuple(
    spelt for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY") for spelt in (name, name.lower())
)

_KINDS: Final[tuple[tuple[type[HfHubHTTPError], type[HfmemError]], ...]] = (
    (HubRevisionNotFoundError, RevisionNotFoundError),
    (DisabledRepoError, DisabledModelError),
)


# Errors identified by their status, with a message if the server's is not useful
_PLAIN: Final[dict[int, tuple[type[HfmemError], str]]] = {
    403: (AccessDeniedError, ""),
    416: (InvalidFileError, "a file is empty"),
    451: (AccessDeniedError, ""),
}


def _by_status(model: str, error: HfHubHTTPError) -> Exception:
    """The error for a status that huggingface_hub does not map to a specific exception (it recognises repository URLs
    only with https)."""
    response = error.response
    status, message = response.status_code, response.headers.get("X-Error-Message", "")
    if status == 404 and not isinstance(error, RepositoryNotFoundError):
        return FileMissingError(str(response.url.path))
    if status == 429:
        return RateLimitedError(model, message, seconds=_told_wait(error))
    if status == 401 and "credentials" in message.lower():
        return InvalidTokenError(model, message)
    if status in (401, 404):
        return ModelNotFoundError(
            model
        )  # the server's message ("Invalid username or password") is misleading, as no login was sent
    if status in _PLAIN:
        kind, words = _PLAIN[status]
        return kind(model, words or message)
    answered = f"the server answered {status}"
    return HubUnreachableError(model, answered) if status >= 500 else UnexpectedAnswerError(model, answered)


def _told_wait(error: HfHubHTTPError) -> int | None:
    """Seconds to wait according to the response: from `RateLimit` if the quota is used up, else `Retry-After`."""
    headers = error.response.headers
    limit = parse_ratelimit_headers(headers)
    if error.response.status_code == 429 and limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    after = headers.get("Retry-After", "").strip()
    return int(after) if after.isascii() and after.isdecimal() and len(after) < 10 else None


def _words(error: Exception) -> str:
    """A short description of a connection error."""
    if isinstance(error, _NeverConnected):
        return f"no connection within {CONNECT:g} s"
    if isinstance(error, httpx2.TimeoutException | StalledError):
        return "the connection stalled"
    # messages of other errors may contain headers, and thus the token
    return str(error) if isinstance(error, httpx2.ConnectError) and str(error) else type(error).__name__
