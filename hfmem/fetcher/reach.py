"""What a run has learnt of the hosts that it asks: one that cannot be reached is not tried again for each model."""

from __future__ import annotations

import threading
import time
from typing import Final

__all__ = ["Reach"]

REMEMBERED: Final = 60.0  # seconds; a long list goes on when the network is back
_MOST_FAILURES: Final = 3  # models in a row, of a host that takes connections: one may have a trouble of its own


class Reach:
    """The hosts of a run that give no answers. Every thread of the run asks the same one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._down: dict[str, tuple[float, str]] = {}
        self._failures: dict[str, set[str]] = {}

    def down(self, host: str) -> str | None:
        """Why a host is not asked at the moment; None where it is."""
        with self._lock:
            until, words = self._down.get(host, (0.0, ""))
            return words if time.monotonic() < until else None

    def unreachable(self, host: str, words: str) -> None:
        """Write down that no connection can be made."""
        with self._lock:
            self._down[host] = (time.monotonic() + REMEMBERED, words)

    def failed(self, host: str, model: str, words: str) -> None:
        """Write down that a connection led to no answer about a model; several models in a row are as good as none."""
        with self._lock:
            models = self._failures.setdefault(host, set())
            models.add(model)
            if len(models) >= _MOST_FAILURES:
                self._down[host] = (time.monotonic() + REMEMBERED, words)

    def answered(self, host: str) -> None:
        """Write down that the host answers."""
        with self._lock:
            self._failures.pop(host, None)
            self._down.pop(host, None)
