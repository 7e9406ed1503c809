"""The models that visitors ask for, fetched and interpreted, and kept for a while so that a change of an option does
not fetch anew."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hfmem.errors import HfmemError
from hfmem.fetcher.catalog import model_ids
from hfmem.fetcher.concurrent import fetch_all, unforeseen
from hfmem.fetcher.identity import as_read
from hfmem.fetcher.reach import Reach
from hfmem.fetcher.search import public_ids
from hfmem.fetcher.values import Access, Checkpoint, ModelRef, Visitor
from hfmem.mapper.adapted import understood
from hfmem.mapper.interpret import Model

__all__ = ["Models"]

_KEPT: Final = 32  # models; the largest take some megabytes each
_FRESH: Final = 600.0  # seconds: then the Hub is asked again
_RETRIED: Final = 30.0  # seconds, where the Hub did not answer or the model was not found
_JOBS: Final = 4
_SHOWN: Final = 8  # suggestions


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models of all visitors.

    Attributes:
        offline: do not use the network.
        private: whether the page is its visitor's own: then the login, the caches and the files of this machine are
            used, as on the command line.
    """

    offline: bool = False
    private: bool = False
    _reach: Reach = field(default_factory=Reach, repr=False)
    _kept: OrderedDict[ModelRef, tuple[float, Model | HfmemError]] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def get(self, refs: Sequence[ModelRef], token: str | None = None) -> list[Model | HfmemError]:
        """The models in this order; an error where there is none. What is fetched with a visitor's token is not kept,
        and nobody else's answer is given to who has one."""
        if token:
            found = dict(self._fetched(refs, token))
            return [found[ref] for ref in refs]
        known = {ref: model for ref in refs if (model := self._fresh(ref)) is not None}
        missing = [ref for ref in refs if ref not in known]
        for ref, model in self._fetched(missing, None):
            self._keep(ref, model)
            known[ref] = model
        # as each visitor wrote it
        return [_asked(known[ref], ref) for ref in refs]

    def suggested(self, word: str) -> tuple[str, ...]:
        """Ids that match a few characters: of the catalog, then public ones of the Hub."""
        folded = word.strip().lower()
        ids = [each for each in model_ids() if folded in each.lower()]
        ids.sort(key=lambda each: (not each.lower().rpartition("/")[2].startswith(folded), each.lower()))
        hub = () if self.offline or len(folded) < 3 else public_ids(folded, _SHOWN, self._reach)
        return tuple(dict.fromkeys((*ids[:_SHOWN], *hub)))[: 2 * _SHOWN]

    def _fetched(self, refs: Sequence[ModelRef], token: str | None) -> Iterable[tuple[ModelRef, Model | HfmemError]]:
        if not refs:
            return
        kind = Access if self.private else Visitor
        access = kind(token=token, offline=self.offline, use_cache=token is None)
        for ref, result in fetch_all(refs, access, _JOBS, reach=self._reach):
            yield ref, _interpreted(ref, result)

    def _fresh(self, ref: ModelRef) -> Model | HfmemError | None:
        with self._lock:
            until, model = self._kept.get(ref, (0.0, None))
            if model is None or time.monotonic() > until:
                return None
            self._kept.move_to_end(ref)
            return model

    def _keep(self, ref: ModelRef, model: Model | HfmemError) -> None:
        if isinstance(model, HfmemError):
            model.with_traceback(None)
        steady = isinstance(model, Model) and (self.offline or model.checkpoint.source == "hub")
        with self._lock:
            self._kept[ref] = (time.monotonic() + (_FRESH if steady else _RETRIED), model)
            self._kept.move_to_end(ref)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)


def _interpreted(ref: ModelRef, found: Checkpoint | HfmemError) -> Model | HfmemError:
    """The model of a checkpoint, without what would take seconds of PyTorch."""
    if isinstance(found, HfmemError):
        return found
    try:
        with HfmemError.concerning(ref.model_id):
            return understood(replace(found, ref=as_read(ref, found.ref)))
    except HfmemError as error:
        error.asked = ref.named
        return error
    except Exception as error:
        return unforeseen(ref, error)


def _asked(model: Model | HfmemError, ref: ModelRef) -> Model | HfmemError:
    if isinstance(model, HfmemError) or model.checkpoint.ref.asked == ref.asked:
        return model
    return replace(model, checkpoint=replace(model.checkpoint, ref=ref))
