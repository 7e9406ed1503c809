"""Speculative decoding in SGLang: the draft's weights and its pool, and what it has only while the pools are sized.

* `NEXTN`, and `EAGLE` without a draft: the checkpoint's own prediction layers.
* `EAGLE`, `EAGLE3`: a trained head with layers of its own. The embedding is the model's, and so is the head, but of
  EAGLE3's own vocabulary.
* `STANDALONE`: a whole model, split over the same ranks.
* `NGRAM`: nothing on the accelerator; the table of phrases is the host's.

Since 0.5.14 the draft is loaded before the pools are sized, with an embedding and a head of its own, which are
released after that (`eagle_worker_v2.py`: `alloc_memory_pool` before `init_lm_head`): the pool is smaller by them for
good. Before, the draft's weights and pool came out of what the fraction leaves.

A token of the draft's pool is charged as a layer of the model's, whatever the draft keeps
(`pool_configurator.py::DefaultPoolConfigurator`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.predicting import predicting, predicting_layer
from hfmem.engines.sglang.settings import Settings, settings_of
from hfmem.engines.sglang.split import RULES
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.split.ranks import rank_model
from hfmem.estimator.split.stages import Stage
from hfmem.estimator.values import Term
from hfmem.estimator.weights.kept import Kept
from hfmem.estimator.weights.loaded import group_bytes
from hfmem.mapper.caches import Cache
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import ParameterTable, TensorGroup

__all__ = ["DRAFT_NAMES", "draft_caches", "draft_refusal", "draft_terms", "lent"]

_SOURCE: Final = "SGLang 0.5.23, srt/speculative/{eagle,standalone}_worker_v2.py"
DRAFT_NAMES: Final = ("prediction layers", "draft model")
"""The names of the draft's terms."""


def draft_caches(model: Model, scenario: Scenario) -> tuple[Cache, ...]:
    """What the draft's layers on one rank keep; `model` is the part on that rank."""
    asked, layers = settings_of(scenario), model.architecture.layers or ()
    if asked.predicts:
        return (predicting_layer(layers).cache,) * model.architecture.prediction_layers if layers else ()
    draft = _draft(model, scenario)
    return tuple(layer.cache for layer in draft.architecture.layers or ()) if draft is not None else ()


def _draft(model: Model, scenario: Scenario) -> Model | None:
    """The draft model's part on one rank, without what it shares with the model."""
    asked = settings_of(scenario)
    if asked.draft is None or asked.predicts or asked.speculative_algorithm in (None, "NGRAM"):
        return None
    draft, shared = asked.draft, _shared(model, asked)
    if draft.parameters is not None:
        kept = tuple(group for group in draft.parameters.groups if group.component not in shared)
        draft = replace(draft, parameters=ParameterTable(groups=kept))
    return _on_rank(draft, scenario)


def _shared(model: Model, asked: Settings) -> tuple[str, ...]:
    """Components of the draft that are the model's in the end."""
    if asked.speculative_algorithm == "STANDALONE" or asked.draft is None:
        return ()
    if asked.speculative_algorithm == "EAGLE3":
        narrow = asked.draft.architecture.hidden_size != model.architecture.hidden_size
        return () if narrow else ("embedding",)
    return ("embedding", "lm_head")


def _on_rank(model: Model, scenario: Scenario) -> Model:
    """A part that is split over tensor-parallel ranks only: a draft is not divided into stages."""
    depth = len(model.architecture.layers or ())
    whole = Stage(index=0, of=1, start=0, end=depth, ranks=(0,))
    return rank_model(model, scenario.parallel, whole, RULES)


def draft_terms(model: Model, scenario: Scenario, kept: Kept) -> tuple[Term, ...]:
    """The draft's weights on one rank; `model` is the part on that rank."""
    mine, other = DRAFT_NAMES
    if settings_of(scenario).predicts:
        found, name = _on_rank(predicting(model), scenario), mine
    else:
        draft = _draft(model, scenario)
        if draft is None:
            return ()
        found, name = draft, other
    groups = [group for group in (found.parameters.groups if found.parameters else ()) if group.loaded]
    nbytes = sum(group_bytes(group, scenario, kept) or 0 for group in groups)
    if not nbytes:
        return ()
    how = f"{sum(group.parameters for group in groups):,} parameters, without what it shares with the model"
    return (Term(name=name, group="weights", nbytes=nbytes, how=how, source=_SOURCE, certainty="derived"),)


def lent(model: Model, scenario: Scenario) -> int:
    """Bytes of the embedding and the head that a draft has on one rank until the pools are allocated, in releases that
    load it before; `model` may be the whole model."""
    asked, dtype = settings_of(scenario), find_dtype(scenario.compute_dtype or "")
    if dtype is None or not asked.source.drafts_counted:
        return 0
    if asked.predicts:
        of, tables = model.architecture, 2 if model.architecture.prediction_layers else 0
    elif asked.draft is not None:
        shared = _shared(model, asked)
        # EAGLE3 has a head of its own vocabulary, which stays, or else the model's
        headless = shared == ("embedding",) and not any(group.component == "lm_head" for group in _groups(asked.draft))
        of, tables = asked.draft.architecture, len(shared) + headless
    else:
        return 0
    table = (of.vocab_size or 0) * (of.hidden_size or 0)
    tables = min(tables, 1) if of.tied_embeddings else tables
    return dtype.nbytes(-(-table // scenario.parallel.tp) * tables)


def _groups(model: Model) -> tuple[TensorGroup, ...]:
    return model.parameters.groups if model.parameters is not None else ()


def draft_refusal(model: Model, scenario: Scenario) -> str:
    """Why the draft is refused, or cannot be estimated; "" where it runs."""
    return next(filter(None, _reasons(model, scenario)), "")


def _reasons(model: Model, scenario: Scenario) -> Iterator[str]:
    asked = settings_of(scenario)
    algorithm, draft = asked.speculative_algorithm, asked.draft
    if algorithm is None:
        return
    word = f"--speculative-algorithm {algorithm}"
    if asked.predicts:
        if not model.architecture.prediction_layers:
            other = " or a draft (--spec-model)" if algorithm == "EAGLE" else ""
            yield f"{word} needs a model with prediction layers{other}, and this one has none"
        elif not any(group.component == "mtp" for group in _groups(model)):
            yield "the checkpoint's files have no prediction layers, or are not known: their size cannot be counted"
        return
    if asked.enable_dp_attention and algorithm in ("NGRAM", "STANDALONE"):
        yield f"{word} does not run with --enable-dp-attention"
    if algorithm == "NGRAM":
        if scenario.gpu is not None and scenario.gpu.vendor == "amd":
            yield f"{word} runs on CUDA, CPU and XPU devices"
        return
    if not asked.spec_model:
        yield f"{word} needs --spec-model"
    elif draft is None or draft.architecture.layers is None or draft.parameters is None:
        yield f"the draft {asked.spec_model} could not be read: its size is not known"
