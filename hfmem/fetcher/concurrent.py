"""Fetching of several models concurrently, with results (checkpoint or error) in the given order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from hfmem.errors import HfmemError, UnforeseenError
from hfmem.fetcher.reach import Reach
from hfmem.fetcher.sources import fetch, is_networked, prepare
from hfmem.fetcher.values import Access, Checkpoint, ModelRef

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Fetched", "fetch_all", "unforeseen"]

Fetched = tuple[ModelRef, Checkpoint | HfmemError]


def fetch_all(
    refs: Sequence[ModelRef],
    access: Access,
    jobs: int,
    done: Callable[[], object] = lambda: None,
    reach: Reach | None = None,
) -> Iterator[Fetched]:
    """Start fetching `jobs` models at once; returns an iterator over the results in order.

    Requests are running when this returns; `done` is called from another thread as each model becomes ready. Duplicate
    models are fetched once. `reach` is shared by runs that follow each other. A single model that nothing is requested
    for needs no threads, and is read when it is taken.
    """

    def one(ref: ModelRef, ready: Future[None] | None = None) -> Checkpoint | HfmemError:
        try:
            if ready is not None:
                ready.result()
            return fetch(ref, access, shared)
        except HfmemError as error:
            error.model, error.asked = error.model or ref.model_id, ref.named
            return error
        except Exception as error:
            return unforeseen(ref, error)
        finally:
            done()

    shared = reach or Reach()
    if len(refs) == 1 and not is_networked(refs, access):
        return ((ref, one(ref)) for ref in refs)
    from concurrent.futures import ThreadPoolExecutor  # loads `logging`

    pool = ThreadPoolExecutor(max_workers=max(1, min(jobs, len(refs))), thread_name_prefix="hfmem-model")
    ready = pool.submit(prepare, refs, access)  # meanwhile, what answers is imported
    each = {ref: pool.submit(one, ref, ready) for ref in dict.fromkeys(refs)}
    for _ in range(len(refs) - len(each)):
        done()
    return _results(pool, refs, [each[ref] for ref in refs])


def unforeseen(ref: ModelRef, error: Exception) -> UnforeseenError:
    """An unexpected exception as an HfmemError. Its message is not included, as it may quote a token."""
    found = UnforeseenError(ref.model_id, type(error).__name__)
    found.__cause__, found.asked = error, ref.named
    return found


def _results(
    pool: ThreadPoolExecutor, refs: Sequence[ModelRef], futures: Sequence[Future[Checkpoint | HfmemError]]
) -> Iterator[Fetched]:
    try:
        for ref, future in zip(refs, futures, strict=True):
            yield ref, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
