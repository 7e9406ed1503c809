"""The Hub's quotas, kept by planning: each request takes one of its bucket before it is sent, and waits for the next
window where none is left.

The Hub counts requests in fixed windows, apart for its API and for files, and every answer tells how many are left
(`RateLimit: "api";r=499;t=300`, `RateLimit-Policy: "fixed window";"api";q=500;w=300`). What is left is kept in a file
too, so that a run which goes on where another was killed does not ask for what that one has used up.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

__all__ = ["Budget", "Quotas", "bucket_of"]

_LATE: Final = 1.0
"""Seconds behind the told end of a window at which the next has begun for certain: the Hub tells whole seconds, and not
whether they are rounded up or down, unless its answers show it."""

_DRIFT: Final = 1e-3  # of a window: how much faster than the Hub's the clock of this machine may run

_GLANCE: Final = 0.25  # seconds after which a waiting request looks whether it is still wanted
_SOON: Final = 0.02  # seconds between two questions for a request, while the first answer of a window is awaited
_LONGEST: Final = 256  # bytes of a line in the file
_BOUNDLESS: Final = 2**62  # requests to a server without quotas, as mirrors are


def bucket_of(path: str) -> str:
    """The quota that a request counts against, by its path."""
    if path.startswith("/api/"):
        return "api"
    return "resolvers" if "/resolve/" in path or "/raw/" in path else "pages"


_Limit = tuple[int, int, int | None, int | None]  # requests left, seconds, quota and window


class Quotas(Protocol):
    """The quotas that requests are taken from."""

    def take(self, path: str, abandoned: threading.Event) -> bool:
        """Take a request of the path's bucket, after the wait that it needs. Returns whether there was one, or the
        answer is no longer wanted (False)."""

    def answered(self, path: str, headers: Mapping[str, str] | None) -> None:
        """Record what an answer tells of its bucket; None for a request that none came to."""

    def close(self) -> None:
        """Let every request that waits give up."""


@dataclass(slots=True, kw_only=True)
class _Bucket:
    """What is known of a quota.

    Attributes:
        quota, window: requests in a window, and its seconds; 0 until an answer told.
        left: requests that may still be sent in this window.
        told: the fewest that an answer of this window told to be left.
        ends: when the next window has begun for certain, by the clock of the machine; 0 if unknown.
        first: when the first answer of this window arrived.
        flying: requests that were sent and not yet answered.
        taken: when each of them was taken, by its path.
        sure: whether an answer of this window has arrived: until then only one request is sent.
        used: requests sent in this run.
    """

    quota: int = 0
    window: float = 0.0
    left: int = 1
    told: int = 0
    ends: float = 0.0
    first: float = 0.0
    flying: int = 0
    taken: dict[str, float] = field(default_factory=dict)
    sure: bool = False
    used: int = 0

    def renew(self) -> None:
        """Begin another window: one request asks what there is."""
        self.left, self.told, self.sure, self.ends = max(self.quota, 1), max(self.quota, 1), False, 0.0


class Budget:
    """The quotas of one account at one Hub, over all threads of a run.

    Args:
        kept: a file that has them between runs; None for none.
        clock: seconds since some day, for this run and the next.
    """

    def __init__(self, kept: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._up = False  # whether the Hub's seconds are rounded up, as its answers have shown
        self._turn = threading.Condition()
        self._buckets: dict[str, _Bucket] = {}
        self._closed = False
        self._kept = kept
        self._file: int | None = None
        self._load()

    def take(self, path: str, abandoned: threading.Event) -> bool:
        """Take a request of the path's bucket, after the wait that it needs. Returns whether there was one, or the
        answer is no longer wanted (False)."""
        with self._turn:
            while not (self._closed or abandoned.is_set()):
                seconds = self._asked(path)
                if not seconds:
                    return True
                self._turn.wait(min(_GLANCE, seconds))  # an answer wakes it earlier
        return False

    def ask(self, path: str) -> float:
        """Take a request of the path's bucket, if there is one: 0.0, else the seconds after which to ask again."""
        with self._turn:
            return self._asked(path)

    def _asked(self, path: str) -> float:
        bucket = self._bucket(bucket_of(path))
        if bucket.left > 0 and (bucket.sure or not bucket.flying):
            bucket.left -= 1
            bucket.flying += 1
            bucket.used += 1
            bucket.taken.setdefault(path, self._clock())  # of several, the time of the first
            self._save()
            return 0.0
        return _SOON if bucket.left > 0 or not bucket.ends else max(_SOON, bucket.ends - self._clock())

    def answered(self, path: str, headers: Mapping[str, str] | None) -> None:
        """Record what an answer tells of its bucket; None for a request that none came to."""
        limit = _told(headers or {})
        with self._turn:
            bucket = self._bucket(bucket_of(path), renew=False)
            bucket.flying = max(0, bucket.flying - 1)
            sent = bucket.taken.pop(path, 0.0)
            if limit is not None:
                self._learn(bucket, sent, limit)
            elif not bucket.sure and headers is not None and not bucket.quota:
                bucket.sure, bucket.left = True, _BOUNDLESS
            elif not bucket.sure:
                bucket.left = max(bucket.left, 1)
            self._save()
            self._turn.notify_all()

    def close(self) -> None:
        """Let every request that waits give up."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def waits(self) -> Mapping[str, float]:
        """Seconds until the next window, of each bucket without requests."""
        now = self._clock()
        with self._turn:
            return {
                name: bucket.ends - now
                for name, bucket in self._buckets.items()
                if bucket.left <= 0 and bucket.ends > now
            }

    def seconds_for(self, share: float) -> float:
        """Seconds of waiting that `share` times the requests of this run would take: for as many more models as were
        read so far, 1."""
        now = self._clock()
        with self._turn:
            return max((_seconds(bucket, share * bucket.used, now) for bucket in self._buckets.values()), default=0.0)

    def _bucket(self, name: str, *, renew: bool = True) -> _Bucket:
        bucket = self._buckets.setdefault(name, _Bucket())
        if renew and bucket.ends and self._clock() >= bucket.ends:
            bucket.renew()
        return bucket

    def _learn(self, bucket: _Bucket, sent: float, limit: _Limit) -> None:
        left, seconds, quota, window = limit
        now = self._clock()
        bucket.quota, bucket.window = quota or bucket.quota or left + 1, float(window or bucket.window or seconds)
        if bucket.sure and bucket.ends and sent + seconds - _LATE > bucket.ends:
            bucket.sure = False  # a window of the Hub that began earlier than expected
            bucket.told = left
        if not bucket.sure:
            bucket.first = now
        # The window ends at most its length after its first answer; seconds that were rounded down, or to the nearest,
        # could not be that many so long after it.
        self._up = self._up or sent + seconds - 0.5 > bucket.first + bucket.window
        ends = min(now + seconds + _LATE * (not self._up), bucket.first + bucket.window) + _DRIFT * bucket.window
        bucket.told = left if not bucket.sure else min(bucket.told, left)
        # those that are under way may be counted in it, or not; once none is, it is exact
        rest = max(left - bucket.flying, 0)
        if not bucket.flying:
            bucket.left = bucket.told
        else:
            bucket.left = min(bucket.left, rest) if bucket.sure else rest
        bucket.ends = ends if not bucket.sure else min(bucket.ends, ends)
        bucket.sure = True

    def _load(self) -> None:
        if self._kept is None:
            return
        try:
            found = json.loads(self._kept.read_bytes()[: 8 * _LONGEST])
            for name, (quota, window, left, ends) in found.items():
                if quota > 0 and left >= 0 and 0 < ends - self._clock() <= window + 2 * _LATE:
                    self._buckets[str(name)] = _Bucket(
                        quota=int(quota),
                        window=float(window),
                        left=int(left),
                        told=int(left),
                        ends=float(ends),
                    )
        except (OSError, ValueError, TypeError, AttributeError):
            return

    def _save(self) -> None:
        """Write what is left, before a request is sent: a run that is killed has used it."""
        if self._kept is None or self._closed:
            return
        rows = {name: [b.quota, b.window, b.left, b.ends] for name, b in self._buckets.items() if b.quota and b.ends}
        text = json.dumps(rows).encode()
        try:
            if self._file is None:
                self._kept.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._kept, os.O_RDWR | os.O_CREAT, 0o600)
            os.pwrite(self._file, text.ljust(2 * _LONGEST), 0)
        except OSError:
            self._kept = None


def _seconds(bucket: _Bucket, wanted: float, now: float) -> float:
    """Seconds of waiting for so many more requests."""
    more = wanted - max(bucket.left, 0)
    if more <= 0 or not bucket.quota:
        return 0.0
    return max(bucket.ends - now, 0.0) + bucket.window * (-(-more // bucket.quota) - 1)


def _told(headers: Mapping[str, str]) -> _Limit | None:
    """Requests left, seconds, quota and window that an answer tells; None if it tells nothing that can be."""
    from huggingface_hub.utils import parse_ratelimit_headers  # loaded with the client

    given = {name: headers.get(name, "") for name in ("ratelimit", "ratelimit-policy")}
    small = {name: value for name, value in given.items() if len(value) < _LONGEST}
    try:
        found = parse_ratelimit_headers(small)
    except ValueError:
        return None
    if found is None or found.reset_in_seconds > 86_400:
        return None
    return found.remaining, found.reset_in_seconds, found.limit, found.window_seconds
