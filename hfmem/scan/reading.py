"""Reading of a list: what was read of each model as it comes, by threads of this process or by another executor."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

from hfmem.answers import report_all
from hfmem.errors import HfmemError
from hfmem.fetcher.budget import Budget, Quotas
from hfmem.fetcher.concurrent import Fetched, unforeseen
from hfmem.fetcher.reach import Reach
from hfmem.fetcher.sources import fetch, prepare
from hfmem.fetcher.values import Access, ModelRef
from hfmem.report.values import Report
from hfmem.scan.rows import Layout
from hfmem.scenario.options import Options

__all__ = ["Here", "Part", "Read", "Reader", "Task", "read_here", "read_of"]

_GLANCE: Final = 0.5  # seconds between two looks at the progress
_AHEAD: Final = 2  # models for each that is read at once: as many wait for their estimate at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be done with each model of a list.

    Attributes:
        options: the scenario.
        access: how to access models.
        jobs: models that a process reads at once.
        layout: the columns of their rows.
    """

    options: Options
    access: Access
    jobs: int
    layout: Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What was read of a model.

    Attributes:
        ref: the model.
        row: its row, without a place in the list.
        fits: whether it fits on every accelerator.
    """

    ref: ModelRef
    row: dict[str, Any]
    fits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Models that were read together.

    Attributes:
        number: its place among the parts of the run.
        models: what was read; none yet, where it is only time to look at the progress.
    """

    number: int
    models: tuple[Read, ...]


class Reader(Protocol):
    """Who reads a list."""

    def parts(self, refs: Iterable[ModelRef]) -> Iterator[Part]:
        """What was read, as it comes, and an empty part at times."""

    def waits(self) -> Mapping[str, float]:
        """Seconds until the next window of each quota that is used up."""

    def seconds_for(self, share: float) -> float:
        """Seconds of waiting that as many models as were read would take, times `share`."""

    def close(self) -> None:
        """End what is under way."""


def read_of(ref: ModelRef, answer: Report | HfmemError, task: Task) -> Read:
    """What an answer says of a model."""
    fits = answer.fits if isinstance(answer, Report) else ()
    return Read(ref=ref, row=task.layout.row(answer), fits=bool(fits) and all(fit.fits for fit in fits))


def read_here(task: Task, refs: Iterable[ModelRef], quotas: Quotas) -> Iterator[Part]:
    """What threads of this process read: each model alone, as it comes."""
    gc.enable()  # what is read of a model is let go of, in a run of any length
    gc.freeze()
    prepare(refs := list(refs), task.access)
    reach, left, number = Reach(quotas), iter(refs), 0
    most = max(1, min(task.jobs, len(refs)))
    pool = ThreadPoolExecutor(max_workers=most, thread_name_prefix="hfmem-model")
    running: set[Future[Fetched]] = set()
    try:
        while True:
            more = islice(left, max(0, most * _AHEAD - len(running)))
            running |= {pool.submit(_fetched, ref, task.access, reach) for ref in more}
            if not running:
                return
            done, running = wait(running, timeout=_GLANCE, return_when=FIRST_COMPLETED)
            for one in done:
                found = one.result()
                (answer,) = report_all([found], task.options)
                yield Part(number=number, models=(read_of(found[0], answer, task),))
                number += 1
            yield Part(number=number, models=())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Here:
    """This process.

    Args:
        task: what is to be done.
        budget: the Hub's quotas.
    """

    def __init__(self, task: Task, budget: Budget) -> None:
        self._task, self._budget = task, budget

    def parts(self, refs: Iterable[ModelRef]) -> Iterator[Part]:
        """What was read, as it comes, and an empty part at times."""
        return read_here(self._task, refs, self._budget)

    def waits(self) -> Mapping[str, float]:
        """Seconds until the next window of each quota that is used up."""
        return self._budget.waits()

    def seconds_for(self, share: float) -> float:
        """Seconds of waiting that as many models as were read would take, times `share`."""
        return self._budget.seconds_for(share)

    def close(self) -> None:
        """Let what waits for a quota give up."""
        self._budget.close()


def _fetched(ref: ModelRef, access: Access, reach: Reach) -> Fetched:
    try:
        return ref, fetch(ref, access, reach)
    except HfmemError as error:
        error.model, error.asked = error.model or ref.model_id, ref.named
        return ref, error
    except Exception as error:
        return ref, unforeseen(ref, error)
