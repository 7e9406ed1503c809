"""The estimate of running a model: weights, cache, activations, overhead, on each distinct rank of a parallel plan.

Weights do not depend on batch and length, so that `Prepared` counts them once for the many estimates of a search.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfmem.engines.transformers.split import RULES as TRANSFORMERS
from hfmem.estimator import textbook
from hfmem.estimator.activations.prefill import activation_terms
from hfmem.estimator.cache.sizes import CacheSize, cache_size
from hfmem.estimator.overheads import overhead_terms
from hfmem.estimator.split.check import check_split
from hfmem.estimator.split.ranks import rank_model
from hfmem.estimator.split.rules import SplitRules
from hfmem.estimator.split.stages import Stage, stages
from hfmem.estimator.values import Estimate, Group, Rank, Scenario, Serving, Term, total_of
from hfmem.estimator.weights.loaded import experts_left_alone, weight_terms
from hfmem.mapper.interpret import Model
from hfmem.units import format_bytes

if TYPE_CHECKING:  # the engine is loaded for its own runs only
    from hfmem.engines.vllm.cachespec import Layout
    from hfmem.engines.vllm.memory import RankCache

__all__ = ["Prepared", "estimate", "split_rules"]

_Unknown = tuple[tuple[Group, str], ...]


def split_rules(runtime: str) -> SplitRules:
    """How a runtime splits a model over ranks."""
    if runtime == "vllm":
        from hfmem.engines.vllm.split import RULES as VLLM  # for runs with the engine only

        return VLLM
    return TRANSFORMERS


def estimate(model: Model, scenario: Scenario) -> Estimate:
    """The estimate of a scenario: by the textbook where it is asked, else as the implementation behaves.

    Raises:
        InvalidScenarioError: the engine would refuse to split this model so.
    """
    if scenario.method == "textbook":
        return textbook.estimate(model, scenario)
    if scenario.mode == "training":
        return _trained(model, scenario)
    return Prepared.of(model, scenario).estimate(scenario)


def _trained(model: Model, scenario: Scenario) -> Estimate:
    from hfmem.estimator.recipe.values import TrainingScenario  # its tables are for training only
    from hfmem.estimator.training.estimate import estimate as estimate_training

    if not isinstance(scenario, TrainingScenario):
        raise TypeError("a scenario of training without a way of training")
    return estimate_training(model, scenario)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A pipeline stage's model as one of its ranks holds it, and what does not depend on batch and length."""

    stage: Stage
    model: Model
    terms: tuple[Term, ...]
    unknown: _Unknown
    layout: Layout | str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filled:
    """A stage's rank under one batch and length."""

    terms: tuple[Term, ...]
    unknown: _Unknown
    cache: CacheSize | RankCache | str

    @property
    def total(self) -> int:
        return total_of(self.terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A model split as a scenario says, ready to be estimated under any batch and length."""

    model: Model
    held: tuple[_Held, ...]

    @classmethod
    def of(cls, model: Model, scenario: Scenario) -> Prepared:
        """The stages of a scenario, with their weights.

        Raises:
            InvalidScenarioError: the engine would refuse to split this model so.
        """
        architecture, parallel = model.architecture, scenario.parallel
        rules = split_rules(scenario.runtime)
        check_split(architecture, parallel, rules)
        held: list[_Held] = []
        alike: dict[object, _Held] = {}
        for stage in stages(len(architecture.layers or ()), parallel, rules):
            layers = frozenset(Counter((architecture.layers or ())[stage.start : stage.end]).items())
            key = (layers, stage.first, stage.last)
            if key in alike:  # the same layers, of which the order does not matter
                held.append(alike[key])
                continue
            part = rank_model(model, parallel, stage, rules)
            terms, unknown = weight_terms(part, scenario)
            pages: Layout | str = ""
            if scenario.runtime == "vllm":
                from hfmem.engines.vllm import memory
                from hfmem.engines.vllm.loaded import loaded_terms

                fixed, reason = memory.fixed_terms(part, scenario, stage)
                terms += loaded_terms(part, scenario) + fixed
                unknown += [("activations", reason)] if reason else []
                pages = memory.layout_of(part, scenario)
            alike[key] = _Held(stage=stage, model=part, terms=tuple(terms), unknown=tuple(unknown), layout=pages)
            held.append(alike[key])
        return cls(model=model, held=tuple(held))

    def estimate(self, scenario: Scenario) -> Estimate:
        """The estimate under the batch and length of a scenario (the rest as it was prepared for)."""
        once = {id(held): _fill(held, scenario) for held in self.held}
        filled = [once[id(held)] for held in self.held]
        top = max(filled, key=lambda rank: rank.total)
        whole = [rank.cache for rank in filled]
        caches = [cache for cache in whole if not isinstance(cache, str)]
        known = len(caches) == len(whole)
        return Estimate(
            terms=top.terms,
            unknown=top.unknown,
            kv_cache_per_token=max(cache.per_token for cache in caches) if known else None,
            kv_cache_fixed=max(cache.fixed for cache in caches) if known else None,
            notes=_notes(self.model, scenario),
            ranks=_ranks(filled, scenario, self.model) if scenario.parallel.gpus > 1 else (),
            serving=_serving(filled, scenario, self.model),
        )


def _fill(held: _Held, scenario: Scenario) -> _Filled:
    vllm = scenario.runtime == "vllm"
    cache = _paged(held, scenario) if vllm else cache_size(held.model.architecture, scenario)
    unknown = list(held.unknown)
    terms = list(held.terms)
    if isinstance(cache, str):
        unknown.append(("kv_cache", cache))
    else:
        terms += cache.terms
    if not vllm:
        activations, missing = activation_terms(held.model, scenario)
        terms += [*activations, *overhead_terms(scenario.runtime, scenario.gpu, scenario.parallel)]
        unknown += missing
    return _Filled(terms=tuple(terms), unknown=tuple(unknown), cache=cache)


def _paged(held: _Held, scenario: Scenario) -> RankCache | str:
    from hfmem.engines.vllm.memory import cache_of

    return cache_of(held.layout, scenario)


def _ranks(filled: list[_Filled], scenario: Scenario, model: Model) -> tuple[Rank, ...]:
    """One row a distinct content, with the ranks that have it."""
    found = stages(len(model.architecture.layers or ()), scenario.parallel, split_rules(scenario.runtime))
    rows: dict[tuple[Term, ...], list[int]] = {}
    for stage, rank in zip(found, filled, strict=True):
        rows.setdefault(rank.terms, []).extend(stage.ranks)
    return tuple(Rank(ranks=tuple(sorted(numbers)), terms=terms) for terms, numbers in rows.items())


def _serving(filled: list[_Filled], scenario: Scenario, model: Model) -> Serving | None:
    """What a serving engine has left; None for a runtime that is none, and where a cache is not known."""
    if scenario.serving is None:
        return None
    from hfmem.engines.vllm.memory import RankCache, serving

    pairs = [(rank.cache, rank.terms) for rank in filled if isinstance(rank.cache, RankCache)]
    return serving(pairs, scenario, model) if len(pairs) == len(filled) else None


def _notes(model: Model, scenario: Scenario) -> tuple[str, ...]:
    longest = model.architecture.max_positions
    notes = []
    alone = experts_left_alone(model, scenario) if scenario.runtime == "transformers" else None
    if alone is not None:
        notes.append(
            "bitsandbytes replaces linear modules only, and transformers 5 fuses experts into plain parameters: as it "
            f"is today, {scenario.dtype} leaves them, and the weights are {format_bytes(alone)}."
        )
    if longest is not None and scenario.seq > longest:
        notes.append(f"{scenario.seq:,} tokens are more than the {longest:,} the model is made for.")
    if scenario.serving is not None and scenario.batch > scenario.serving.max_num_seqs:
        notes.append(
            f"Of {scenario.batch:,} sequences, --max-num-seqs lets {scenario.serving.max_num_seqs:,} run at once."
        )
    return tuple(notes)
