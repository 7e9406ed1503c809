"""One HTTP request in its own thread, so that its deadline holds whatever the network does.

A socket timeout applies to a single read. A server that sends one byte per second never exceeds it, name resolution has
no timeout, and a host with eight addresses is tried eight times as long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

__all__ = ["Attempt", "NoConnectionError", "StalledError", "within"]

_Found = TypeVar("_Found")


class NoConnectionError(Exception):
    """No connection was established in time."""


class StalledError(Exception):
    """The response did not arrive in time, or too slowly."""


@dataclass(slots=True)
class Attempt:
    """The progress of a request, updated by its thread.

    Attributes:
        host: the host of the current request; changes after a redirect.
        connected: whether the connection is established.
        end: deadline of the current step (`time.monotonic()`).
    """

    host: str = ""
    connected: bool = False
    end: float = 0.0

    def asks(self, host: str, seconds: float) -> None:
        """Start connecting to a host, with a deadline."""
        self.host, self.connected, self.end = host, False, time.monotonic() + seconds

    def waits(self, seconds: float) -> None:
        """The connection is established; set the deadline of the next step."""
        self.connected, self.end = True, time.monotonic() + seconds

    def tracer(self, seconds: float) -> Callable[[str, Mapping[str, Any]], None]:
        """A trace callback for the HTTP client: once request headers are being sent, the connection is established."""

        def trace(step: str, _: Mapping[str, Any]) -> None:
            if step.endswith("send_request_headers.started"):
                self.waits(seconds)

        return trace


@dataclass(slots=True)
class _Outcome(Generic[_Found]):
    over: threading.Event = field(default_factory=threading.Event)
    found: list[_Found] = field(default_factory=list)
    error: BaseException | None = None


def within(attempt: Attempt, ask: Callable[[], _Found]) -> _Found:
    """Run `ask` in a thread, and return its result or raise its exception.

    Raises:
        NoConnectionError, StalledError: a deadline of the attempt passed; the thread is abandoned.
    """
    outcome: _Outcome[_Found] = _Outcome()

    def run() -> None:
        try:
            outcome.found.append(ask())
        except BaseException as error:
            outcome.error = error
        finally:
            outcome.over.set()

    threading.Thread(target=run, name="hfmem-answer", daemon=True).start()
    while not outcome.over.wait(max(0.01, attempt.end - time.monotonic())):
        if time.monotonic() >= attempt.end:
            raise StalledError if attempt.connected else NoConnectionError
    if outcome.error is not None:
        raise outcome.error
    return outcome.found[0]
