"""A list read by the workers of a Ray cluster: `--executor ray`.

Each part of the list is a Ray task, which Ray runs again if its worker dies. The Hub's quotas are held by an actor that
every request asks: a task that runs again gives back what the one before it had taken and not seen answered.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from huggingface_hub import constants

from hfmem.fetcher.budget import Budget, Quotas
from hfmem.fetcher.concurrent import unforeseen
from hfmem.fetcher.values import Access, ModelRef
from hfmem.refusals.lists import ClusterError
from hfmem.scan.reading import Part, Read, Task, read_here, read_of

__all__ = ["Cluster"]

_GLANCE: Final = 0.5  # seconds between two looks at the progress
_LONGEST: Final = 1.0  # seconds after which a request that waits looks whether it is still wanted
_PART: Final = 50  # models of a part at most: what is read again if a worker dies
_EACH: Final = 4  # parts for each worker at least, so that none is without work at the end
_AHEAD: Final = 2  # parts for each worker that are given out at once
_AGAIN: Final = 5  # times that a part is done again
_CONNECT: Final = 5.0  # seconds to reach a cluster
_TOLD: Final = ("ratelimit", "ratelimit-policy")


class _Ledger:
    """The quotas, as an actor: one call at a time.

    Args:
        kept: a file that has them between runs; None for none.
    """

    def __init__(self, kept: Path | None) -> None:
        self._budget = Budget(kept)
        self._taken: dict[int, Counter[str]] = {}

    def begin(self, part: int) -> None:
        """A worker begins with a part: what one that has died had taken for it gets no answer."""
        for path in self._taken.pop(part, Counter()).elements():
            self._budget.answered(path, None)

    def ask(self, part: int, path: str) -> float:
        """Take a request, if there is one: 0.0, else the seconds after which to ask again."""
        seconds = self._budget.ask(path)
        if not seconds:
            self._taken.setdefault(part, Counter())[path] += 1
        return seconds

    def answered(self, part: int, path: str, headers: Mapping[str, str] | None) -> None:
        """Record an answer."""
        taken = self._taken.get(part, Counter())
        if taken[path] > 0:
            taken[path] -= 1
            self._budget.answered(path, headers)

    def end(self, part: int) -> None:
        """A part is done."""
        self.begin(part)

    def waits(self) -> Mapping[str, float]:
        """Seconds until the next window of each quota that is used up."""
        return self._budget.waits()

    def seconds_for(self, share: float) -> float:
        """Seconds of waiting for `share` times the requests so far."""
        return self._budget.seconds_for(share)


@dataclass(frozen=True, slots=True)
class _Shared(Quotas):
    """The quotas, for the worker that reads a part."""

    ledger: Any
    part: int

    def take(self, path: str, abandoned: threading.Event) -> bool:
        """Take a request of the actor, after the wait that it needs."""
        import ray

        while not abandoned.is_set():
            seconds = ray.get(self.ledger.ask.remote(self.part, path))
            if not seconds:
                return True
            abandoned.wait(min(seconds, _LONGEST))
        return False

    def answered(self, path: str, headers: Mapping[str, str] | None) -> None:
        """Tell the actor."""
        told = None if headers is None else {name: headers[name] for name in _TOLD if name in headers}
        self.ledger.answered.remote(self.part, path, told)

    def close(self) -> None:
        """The part is done."""
        self.ledger.end.remote(self.part)


def _read(task: Task, refs: Sequence[ModelRef], ledger: Any, part: int) -> tuple[Read, ...]:
    """What a worker does with a part."""
    import ray

    ray.get(ledger.begin.remote(part))
    quotas = _Shared(ledger, part)
    try:
        return tuple(read for found in read_here(task, refs, quotas) for read in found.models)
    finally:
        quotas.close()


@dataclass(slots=True)
class Cluster:
    """The workers of a Ray cluster: the one of `RAY_ADDRESS`, or that was started on this machine, else one of its own.

    Args:
        task: what is to be done.
        kept: the file that keeps the quotas between runs; None for none.

    Raises:
        ClusterError: no cluster can be reached or started.
    """

    task: Task
    kept: Path | None
    _ray: Any = field(init=False)
    _ledger: Any = field(init=False)
    _refs: dict[Any, tuple[int, Sequence[ModelRef]]] = field(default_factory=dict, init=False)
    _aside: ExitStack = field(default_factory=ExitStack, init=False)

    def __post_init__(self) -> None:
        self.task = replace(self.task, access=_carried(self.task.access))
        self._aside.enter_context(redirect_stdout(sys.stderr))  # Ray tells of workers that die on the stream for data
        self._ray = ray = _begun()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # where the file is
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(_Ledger)
        self._ledger = actor.remote(self.kept)

    def parts(self, refs: Iterable[ModelRef]) -> Iterator[Part]:
        """Each part, as it is done."""
        ray, every = self._ray, list(refs)
        workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        size = max(1, min(_PART, -(-len(every) // (workers * _EACH))))
        read = ray.remote(num_cpus=1, max_retries=_AGAIN)(_read)
        task, left = ray.put(self.task), enumerate(range(0, len(every), size))
        while True:
            for number, start in islice(left, max(0, workers * _AHEAD - len(self._refs))):
                some = every[start : start + size]
                self._refs[read.remote(task, some, self._ledger, number)] = number, some
            if not self._refs:
                return
            done, _ = ray.wait([*self._refs], timeout=_GLANCE)
            for one in done:
                number, asked = self._refs.pop(one)
                yield Part(number=number, models=self._result(one, asked))
            yield Part(number=-1, models=())

    def _result(self, one: Any, refs: Sequence[ModelRef]) -> tuple[Read, ...]:
        """What came of a part; failures, if each worker that had it died."""
        try:
            found: tuple[Read, ...] = self._ray.get(one)
        except self._ray.exceptions.RayError as error:
            return tuple(read_of(ref, unforeseen(ref, error), self.task) for ref in refs)
        return found

    def waits(self) -> Mapping[str, float]:
        """Seconds until the next window of each quota that is used up."""
        found: Mapping[str, float] = self._ray.get(self._ledger.waits.remote())
        return found

    def seconds_for(self, share: float) -> float:
        """Seconds of waiting that as many models as were read would take, times `share`."""
        found: float = self._ray.get(self._ledger.seconds_for.remote(share))
        return found

    def close(self) -> None:
        """Leave the cluster: what is under way ends, and a cluster of its own too."""
        self._ray.shutdown()
        self._aside.close()


def _carried(access: Access) -> Access:
    """The access with what this machine alone knows: the login, and whether there is a network."""
    offline = access.offline or constants.is_offline_mode()
    if offline or access.token or not access.mine:
        return replace(access, offline=offline)
    from hfmem.fetcher.http import stored_token  # the client, which runs without a network do not load

    return replace(access, token=stored_token())


def _begun() -> Any:
    """Ray, with a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of its own reports to nobody, unless asked to
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do anyway, and warns of
    import ray

    address = os.environ.get("RAY_ADDRESS", "")
    endpoint = {"HF_ENDPOINT": constants.ENDPOINT} if "HF_ENDPOINT" in os.environ else {}
    try:
        _check(address)
        ray.init(log_to_driver=False, logging_level="error", runtime_env={"env_vars": endpoint} if endpoint else None)
    except Exception as error:  # of many kinds
        raise ClusterError(address, kind=type(error).__name__, why=str(error)) from error
    return ray


def _check(address: str) -> None:
    """Connect to an address once, as Ray tries it for minutes.

    Raises:
        OSError: nothing listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT):
            pass
