"""How far a long list is: a bar on a terminal, elsewhere a line a minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing import TextIO

    from hfmem.scan.run import Counts

__all__ = ["ListProgress", "duration", "sentence", "summary"]

_EVERY: Final = 60.0  # seconds between two lines
_QUOTAS: Final = {"api": "API requests", "resolvers": "requests for files", "pages": "requests for pages"}


class ListProgress:
    """Shows how far a run is.

    Args:
        stream: standard error.
        tell: prints a line there.
        clock: seconds.
    """

    def __init__(
        self, stream: TextIO, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._tell, self._clock = stream, tell, clock
        self._begun = self._last = clock()
        self._waited = 0.0
        self._seen = self._begun
        self._bar: Any = None
        self._terminal = stream.isatty()

    def show(self, counts: Counts) -> None:
        """Show it, if it is time to."""
        now = self._clock()
        if counts.waits:
            self._waited += now - self._seen
        self._seen = now
        if self._terminal:
            self._draw(counts)
        elif now - self._last >= _EVERY:
            self._last = now
            self._tell(sentence(counts, self._left(counts)))

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def _left(self, counts: Counts) -> float | None:
        """Seconds that the rest takes: at the pace of this run, with the waits for quotas; None if unknown."""
        if not counts.asked:
            return None
        busy = self._clock() - self._begun - self._waited
        return max(busy, 0.0) / counts.asked * (counts.models - counts.asked) + counts.seconds

    def _draw(self, counts: Counts) -> None:
        if self._bar is None:
            from tqdm import tqdm  # for terminals only

            shape = "{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} {desc}"
            self._bar = tqdm(
                total=counts.total, initial=counts.kept, bar_format=shape, file=self._stream, leave=False,
                dynamic_ncols=True,
            )  # fmt: skip
        self._bar.n = counts.done if counts.kept < counts.total else counts.asked
        self._bar.set_description_str(_rest(counts, self._left(counts)), refresh=True)


def sentence(counts: Counts, left: float | None) -> str:
    """How far it is, in a line."""
    done = counts.done if counts.kept < counts.total else counts.asked
    return f"{done:,} of {counts.total:,} models. {_rest(counts, left)}".rstrip()


def summary(path: object, counts: Counts) -> str:
    """What a run has done, when it is over."""
    words = [f"{path}: {counts.done:,} of {counts.total:,} rows"]
    words += [f"{counts.kept:,} were there"] if counts.kept else []
    words += [f"{counts.changed:,} have changed"] if counts.kept == counts.total else []
    words += [f"{counts.failed:,} without an answer (column error)"] if counts.failed else []
    told = ", ".join(words) + "."
    return f"{told} Go on with --resume." if counts.interrupted or counts.passing else told


def _rest(counts: Counts, left: float | None) -> str:
    words = [f"{counts.failed:,} failed"] if counts.failed else []
    words += [
        f"no {_QUOTAS.get(name, name)} for {duration(seconds)}: the Hub's quota is used up"
        for name, seconds in counts.waits.items()
    ]
    if left is not None and counts.asked < counts.models:
        words.append(f"about {duration(left)} left")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """Seconds in words."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    hours = round(whole / 360) / 10
    return f"{hours:g} h" if hours < 48 else f"{round(hours / 24)} days"
