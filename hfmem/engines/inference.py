"""The estimate of inference: weights, KV cache, activations and overhead on each distinct rank of a parallel plan.

Weights do not depend on batch and length, so `Prepared` computes them once for the many estimates of a search.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from hfmem.engines.kept import kept_notes, trained_notes
from hfmem.engines.protocol import (
    Engine,
    Found,
    Laid,
    Part,
    Places,
    Profiles,
    Ranked,
    RankMemory,
    Splits,
    Trains,
    Whole,
)
from hfmem.engines.table import engine
from hfmem.estimator.cache.sizes import CacheSize
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.split.ranks import rank_model
from hfmem.estimator.split.stages import Stage, stages
from hfmem.estimator.values import Estimate, Group, Loading, Rank, Term, total_of
from hfmem.estimator.weights.formats import AS_STORED
from hfmem.estimator.weights.kept import as_held
from hfmem.mapper.interpret import Model
from hfmem.unknown import Unknown

if TYPE_CHECKING:
    from hfmem.estimator.beside import InPieces
    from hfmem.estimator.serving import Serving

__all__ = ["Prepared", "estimate"]

_LONG: Final = 32_768  # prompt tokens beyond which a prefill in one pass is unusual
_PIECE: Final = 4096  # tokens per chunk in the remark on long prompts

_TOWER: Final[tuple[Group, str]] = (
    "activations",
    "what the tower of images or sound needs while it runs is not measured yet",
)

_SAVED: Final[tuple[Group, str]] = (
    "activations",
    "what a training step of timm's networks saves is not measured",
)

_Unknown = tuple[tuple[Group, str], ...]


def estimate(model: Model, scenario: Scenario) -> Estimate:
    """The estimate of a scenario, by the textbook formulas if requested, else as the implementation behaves.

    Raises:
        InvalidScenarioError: the engine would refuse this split of the model.
    """
    if scenario.method == "textbook":
        from hfmem.estimator import textbook  # for this method only

        return textbook.estimate(model, scenario)
    if scenario.mode == "training":
        return _trained(model, scenario)
    # the second estimate, with chunks, shares the weights of the first
    prepared = Prepared.of(model, scenario)
    if prepared.whole is not None:
        return prepared.estimate(scenario)
    found = prepared.estimate(scenario)
    return replace(found, in_pieces=_in_pieces(prepared, scenario, found))


def _in_pieces(prepared: Prepared, scenario: Scenario, found: Estimate) -> InPieces | None:
    """The total if a long prompt were prefilled in chunks; None where chunks were requested, the prompt is short, or
    chunks save nothing."""
    long = min(scenario.prompt or scenario.seq, scenario.seq) > _LONG
    if not long or scenario.prefill_chunk is not None or prepared.model.architecture.source is not None:
        return None
    pieces = prepared.estimate(replace(scenario, prefill_chunk=_PIECE))
    from hfmem.estimator.beside import InPieces  # for long prompts only

    return InPieces(tokens=_PIECE, total=pieces.total) if pieces.total < found.total else None


def _trained(model: Model, scenario: Scenario) -> Estimate:
    from hfmem.estimator.recipe.values import TrainingScenario  # its tables are for training only
    from hfmem.estimator.training.estimate import estimate as estimate_training

    if not isinstance(scenario, TrainingScenario):
        raise TypeError("a scenario of training without a way of training")
    runs = engine(scenario.runtime)
    refused = runs.refused(model, scenario)
    if not isinstance(runs, Trains) or scenario.training.stack.own_attention:
        row = AS_STORED
    else:
        row = runs.trained(model, scenario.gpu)
    # the checkpoint's packed weights are replaced by what the engine holds, as training formulas know plain ones only
    found = estimate_training(as_held(model, row), scenario)
    if scenario.media_tokens:
        from hfmem.estimator.activations.trained_towers import trained_tower  # for runs with images only

        if isinstance(trained_tower(model, scenario), Unknown):
            found = replace(found, unknown=(*found.unknown, _TOWER))
    if model.network is not None:
        known = (reason for reason in found.unknown if reason[0] != _SAVED[0])
        found = replace(found, unknown=(*known, _SAVED))
    formats = tuple(trained_notes(runs, row, model, scenario))
    told = any(refused in remark for remark in formats)
    notes = (*found.notes, *_refusal(runs, "" if told else refused))
    return replace(found, refused=refused, notes=notes, formats=formats)


class _Held(NamedTuple):
    """The part of the model on one rank of a pipeline stage, with the terms that do not depend on batch and length."""

    stage: Stage
    model: Model
    acting: Model | None
    terms: tuple[Term, ...]
    unknown: _Unknown
    spared: int
    host: tuple[Term, ...]
    layout: object

    @classmethod
    def of(cls, engine: Ranked, model: Model, stage: Stage, scenario: Scenario) -> _Held:
        """The part on one rank of a stage."""
        rules = engine.split_of(model, scenario) if isinstance(engine, Splits) else engine.split
        part = rank_model(model, scenario.parallel, stage, rules)
        found = [engine.weights(part, scenario)]
        if engine.profiled:  # a server profiles its peak once at start-up, with its own batch and length
            found += [_activations(engine, part, scenario, stage), engine.overhead(part, scenario)]
        return cls(
            stage=stage,
            model=part,
            acting=part,
            terms=tuple(term for each in found for term in each.terms),
            unknown=tuple(reason for each in found for reason in each.unknown),
            spared=sum(each.spared for each in found),
            host=tuple(term for each in found for term in each.host),
            layout=engine.layout(part, scenario),
        )

    @classmethod
    def on(cls, engine: Ranked, part: Part, stage: Stage, scenario: Scenario) -> _Held:
        """What is on an accelerator, where whole modules are put on devices."""
        found = engine.weights(part.model, scenario)
        return cls(
            stage=stage,
            model=part.model,
            acting=part.acting,
            terms=(*found.terms, *part.brought),
            unknown=found.unknown,
            spared=found.spared,
            host=(*found.host, *part.host),
            layout=engine.layout(part.model, scenario),
        )


class _Filled(NamedTuple):
    """A rank of a stage, for one batch and length."""

    terms: tuple[Term, ...]
    unknown: _Unknown
    spared: int
    cache: CacheSize | Unknown
    convolved: bool = False

    @property
    def total(self) -> int:
        return total_of(self.terms)

    @property
    def least(self) -> tuple[Term, ...]:
        """The terms with the recipe that needs least memory."""
        if not self.spared:
            return self.terms
        how = "bytes by which another recipe leaves less"
        less = Term(name="spared", group="weights", nbytes=-self.spared, how=how, source="", certainty="derived")
        return (*self.terms, less)


class Prepared(NamedTuple):
    """A model split for a scenario, ready to be estimated for any batch and length."""

    model: Model
    stages: tuple[Stage, ...] = ()
    held: tuple[_Held, ...] = ()
    loading: Loading | None = None
    formats: tuple[str, ...] = ()
    whole: Whole | None = None
    laid: Laid | None = None
    profiled_with: object = None

    @classmethod
    def of(cls, model: Model, scenario: Scenario) -> Prepared:
        """The stages of a scenario, with their weights.

        Raises:
            InvalidScenarioError: the engine would refuse this split of the model.
        """
        architecture, asked = model.architecture, engine(scenario.runtime)
        if scenario.placing is not None and isinstance(asked, Places):
            return cls._laid(_ranked(scenario), model, scenario, asked.laid(model, scenario))
        asked.check_split(architecture, scenario.parallel)
        if isinstance(asked, Whole):
            return cls(model=model, whole=asked)
        runs = _ranked(scenario)
        held: list[_Held] = []
        alike: dict[object, _Held] = {}
        found = stages(len(architecture.layers or ()), scenario.parallel, runs.split)
        for stage in found:
            layers = frozenset(Counter((architecture.layers or ())[stage.start : stage.end]).items())
            key = (layers, stage.first, stage.last)  # the order of layers within a stage does not matter
            if key not in alike:
                alike[key] = _Held.of(runs, model, stage, scenario)
            held.append(alike[key])
        return cls(
            model=model,
            stages=found,
            held=tuple(held),
            loading=runs.loading(model, scenario, _most_weights(held)),
            formats=tuple(kept_notes(runs, model, scenario)),
            profiled_with=_profiled_with(runs, model, scenario),
        )

    @classmethod
    def _laid(cls, runs: Ranked, model: Model, scenario: Scenario, laid: Laid) -> Prepared:
        """The accelerators on which modules are put, each as a stage."""
        count = len(laid.parts)
        found = tuple(Stage(index=index, of=count, start=0, end=0, ranks=(index,)) for index in range(count))
        parts = zip(laid.parts, found, strict=True)
        held = tuple(_Held.on(runs, part, stage, scenario) for part, stage in parts)
        return cls(
            model=model,
            stages=found,
            held=held,
            loading=runs.loading(model, scenario, _most_weights(held)),
            formats=tuple(kept_notes(runs, model, scenario)),
            laid=laid,
        )

    def _told(self, refused: str) -> bool:
        """Whether the remarks on number formats state the reason already."""
        return any(refused in remark for remark in self.formats)

    def estimate(self, scenario: Scenario) -> Estimate:
        """The estimate for the batch and length of a scenario whose other fields are as prepared."""
        if self.whole is not None:
            return self.whole.estimate(self.model, scenario)
        runs = _ranked(scenario)
        if _profiled_with(runs, self.model, scenario) != self.profiled_with:
            return Prepared.of(self.model, scenario).estimate(scenario)
        refused = runs.refused(self.model, scenario) or (self.laid.refused if self.laid else "")
        once = {id(held): _fill(runs, held, scenario) for held in self.held}  # equal stages are one object
        filled = [once[id(held)] for held in self.held]
        top = max(filled, key=lambda rank: rank.total)
        caches = [rank.cache for rank in filled if not isinstance(rank.cache, Unknown)]
        known = len(caches) == len(filled)
        served = _served(runs, filled, self.model, scenario)
        serving, by_most = _by_some(served, refused, lambda: _served(runs, filled, self.model, scenario, least=True))
        serving = _serving(serving, refused, scenario)
        return Estimate(
            terms=top.terms,
            # what is unknown of another rank may make that one the most loaded
            unknown=tuple(dict.fromkeys(reason for rank in (top, *filled) for reason in rank.unknown)),
            kv_cache_per_token=max(cache.per_token for cache in caches) if known else None,
            kv_cache_fixed=max(cache.fixed for cache in caches) if known else None,
            notes=(
                *_notes(runs, self.model, scenario, "" if serving is not None or self._told(refused) else refused),
                *([serving.remark] if serving is not None and serving.command and serving.remark else []),
                *(self.laid.notes if self.laid is not None else ()),
            ),
            ranks=_ranks(self.stages, filled) if scenario.parallel.gpus > 1 else (),
            serving=serving,
            # with the lighter recipe, another rank may be the most loaded one
            spared=top.total - max(rank.total - rank.spared for rank in filled),
            refused=serving.refused if serving is not None else refused,
            refused_by_most=by_most,
            formats=self.formats,
            loading=self.loading,
            host=max(map(_hosted, self.held, filled), key=total_of, default=()),
            convolved=top.convolved,
            placement=self.laid.placement if self.laid is not None else None,
        )


def _most_weights(held: Iterable[_Held]) -> int:
    """Bytes of the most weights on an accelerator: all of them load at the same time."""
    return max(total_of(term for term in one.terms if term.group == "weights") for one in held)


def _profiled_with(runs: Ranked, model: Model, scenario: Scenario) -> object:
    return runs.profiled_with(model, scenario) if isinstance(runs, Profiles) else None


def _ranked(scenario: Scenario) -> Ranked:
    """The scenario's engine, which is estimated rank by rank."""
    runs = engine(scenario.runtime)
    if not isinstance(runs, Ranked):
        raise TypeError(f"{runs.title} is neither estimated by ranks nor as a whole")
    return runs


def _served(
    engine: Ranked, filled: Iterable[_Filled], model: Model, scenario: Scenario, *, least: bool = False
) -> Serving | None:
    """What a server has left with the recipe that needs most memory or, with `least`, the one that needs least."""
    ranks = [RankMemory(terms=rank.least if least else rank.terms, cache=rank.cache) for rank in filled]
    return engine.serving(ranks, scenario, model)


def _by_some(most: Serving | None, refused: str, least: Callable[[], Serving | None]) -> tuple[Serving | None, str]:
    """What a server has left, and why it would not start with the recipe that needs most memory. The reason is "" if
    it starts, and also if it starts with no recipe at all: only a refusal that another recipe avoids is reported."""
    if most is None or refused or not most.refused:
        return most, ""
    lighter = least()
    if lighter is None or lighter.refused:
        return most, ""
    return replace(
        most, refused="", lineless=f"with the recipe that leaves the most unquantised, {most.refused}"
    ), most.refused


def _serving(found: Serving | None, refused: str, scenario: Scenario) -> Serving | None:
    """What a server has left, without a launch line where the engine would refuse to start."""
    if not refused:
        return found
    if found is not None:
        return replace(found, command=None, refused=refused)
    if scenario.serving is None:
        return None
    from hfmem.estimator.serving import Serving  # for servers that do not start only

    return Serving(kv_pool=None, kv_tokens=None, max_concurrency=None, command=None, refused=refused)


def _fill(engine: Ranked, held: _Held, scenario: Scenario) -> _Filled:
    terms, unknown = list(held.terms), list(held.unknown)
    unmodelled = held.model.architecture.unmodelled
    cache = Unknown(unmodelled) if unmodelled else engine.cache(held.model, held.layout, scenario)
    if isinstance(cache, Unknown):
        unknown.append(("kv_cache", cache.reason))
    else:
        terms += cache.terms
    spared, convolved = held.spared, False
    if not engine.profiled:
        acting = Found() if held.acting is None else _activations(engine, held.acting, scenario, held.stage)
        for found in (acting, engine.overhead(held.model, scenario)):
            terms += found.terms
            unknown += found.unknown
            spared += found.spared
            convolved |= found.convolved
    return _Filled(terms=tuple(terms), unknown=tuple(unknown), spared=spared, cache=cache, convolved=convolved)


def _hosted(held: _Held, filled: _Filled) -> tuple[Term, ...]:
    """What the host's memory holds of a rank."""
    return held.host if isinstance(filled.cache, Unknown) else (*held.host, *filled.cache.host)


def _activations(engine: Ranked, model: Model, scenario: Scenario, stage: Stage) -> Found:
    """The engine's activations; unknown for layers that are not modelled."""
    if reason := model.architecture.unmodelled:
        return Found(unknown=(("activations", reason),))
    found = engine.activations(model, scenario, stage)
    told = found.encoded or not scenario.media_tokens
    return found if told else found._replace(unknown=(*found.unknown, _TOWER))


def _ranks(found: Iterable[Stage], filled: Iterable[_Filled]) -> tuple[Rank, ...]:
    """One row per distinct set of terms, with the ranks that share it."""
    rows: dict[tuple[Term, ...], list[int]] = {}
    for stage, rank in zip(found, filled, strict=True):
        rows.setdefault(rank.terms, []).extend(stage.ranks)
    return tuple(Rank(ranks=tuple(sorted(numbers)), terms=terms) for terms, numbers in rows.items())


def _refusal(engine: Engine, reason: str) -> tuple[str, ...]:
    return (f"{engine.title} refuses this: {reason}.",) if reason else ()


def _notes(engine: Engine, model: Model, scenario: Scenario, refused: str) -> tuple[str, ...]:
    longest = model.architecture.max_positions
    notes = list(engine.notes(model, scenario))
    notes += _refusal(engine, refused)
    if longest is not None and scenario.seq > longest and not refused:
        notes.append(f"{scenario.seq:,} tokens exceed the model's maximum of {longest:,}.")
    return tuple(notes)
