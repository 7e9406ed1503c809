"""What the models of a run share: hosts that were unreachable, so that they are not tried again for each model, the
Hub's quotas, and what need not be read."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from hfmem.fetcher.budget import Quotas
    from hfmem.fetcher.values import Checkpoint

__all__ = ["Reach"]

REMEMBERED: Final = 60.0  # seconds; a long list of models continues when the network is back
_MOST_FAILURES: Final = 3  # models in a row: a single one may fail for its own reasons although the host is up


class Reach:
    """The unreachable hosts of a run; one instance is shared by all threads.

    Attributes:
        budget: the Hub's quotas, for runs that keep them by planning; None for others.
        agrees: whether a checkpoint is known as well without the headers of its files; None to read them of all.
    """

    def __init__(self, budget: Quotas | None = None, agrees: Callable[[Checkpoint], bool] | None = None) -> None:
        self.budget = budget
        self.agrees = agrees
        self._lock = threading.Lock()
        self._down: dict[str, tuple[float, str]] = {}
        self._failures: dict[str, set[str]] = {}

    def down(self, host: str) -> str | None:
        """Why a host is skipped at the moment; None if it is not."""
        with self._lock:
            until, words = self._down.get(host, (0.0, ""))
            return words if time.monotonic() < until else None

    def unreachable(self, host: str, words: str) -> None:
        """Record that no connection could be established."""
        with self._lock:
            self._down[host] = (time.monotonic() + REMEMBERED, words)

    def failed(self, host: str, model: str, words: str) -> None:
        """Record a failed response about a model; after several models in a row, the host counts as unreachable."""
        with self._lock:
            models = self._failures.setdefault(host, set())
            models.add(model)
            if len(models) >= _MOST_FAILURES:
                self._down[host] = (time.monotonic() + REMEMBERED, words)

    def answered(self, host: str) -> None:
        """Record that the host responded."""
        with self._lock:
            self._failures.pop(host, None)
            self._down.pop(host, None)
