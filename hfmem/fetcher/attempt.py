"""One answer on its way, in a thread of its own, so that a deadline holds whatever the network does.

A time limit of a socket is for one read of it: a server that sends a byte a second keeps within each, a name server
that is silent has none, and a host with eight addresses is tried eight times as long.
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
    """No connection was made in time."""


class StalledError(Exception):
    """An answer that does not come, or trickles, for longer than it may."""


@dataclass(slots=True)
class Attempt:
    """How far a request has come, as its thread writes it down.

    Attributes:
        host: whom it asks at the moment; another one after a redirect.
        connected: whether the connection stands.
        end: when the step under way has to be over.
    """

    host: str = ""
    connected: bool = False
    end: float = 0.0

    def asks(self, host: str, seconds: float) -> None:
        """A connection to a host is looked for."""
        self.host, self.connected, self.end = host, False, time.monotonic() + seconds

    def waits(self, seconds: float) -> None:
        """The connection stands: what is to come next, has so many seconds."""
        self.connected, self.end = True, time.monotonic() + seconds

    def tracer(self, seconds: float) -> Callable[[str, Mapping[str, Any]], None]:
        """What the HTTP client calls at each of its steps: a request that is sent has a connection."""

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
    """What `ask` returns or raises, as long as it keeps to the deadlines that it sets the attempt.

    Raises:
        NoConnectionError, StalledError: a deadline went by; the thread is left to itself.
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
