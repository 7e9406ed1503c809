"""How far training goes on an accelerator: the largest micro-batch, the longest sequence, the highest rank and the
fewest accelerators, each by inverting the estimate; and the best plan of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hfmem.advice.bisection import last_within
from hfmem.advice.fit import Case, beyond, fewest, usable
from hfmem.advice.values import Plan
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.recipe.trainers import find_trainer
from hfmem.estimator.recipe.values import Lora, TrainingScenario, TrainMethod
from hfmem.hardware.values import Machine
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import ALL_LINEAR
from hfmem.options.words import trained_as
from hfmem.refusals.training import NoTargetsError
from hfmem.scenario.options import Options
from hfmem.scenario.trainers import batch_steps

__all__ = ["highest_rank", "plans"]

_LATER: dict[TrainMethod, tuple[TrainMethod, ...]] = {
    "full": ("full", "lora", "qlora"),
    "lora": ("lora", "qlora"),
    "qlora": ("qlora",),
}
"""Methods by how much of a model they train, from each one on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """A way of training: what is added to the command line for it, and its case."""

    option: str
    case: Case
    scenario: TrainingScenario


def plans(model: Model, options: Options, machine: Machine) -> tuple[Plan, ...]:
    """Ways of training on an accelerator, and how far each goes: as asked, with the other choice of recomputation, and
    the best one; empty where none is known."""
    ways = list(_ways(model, options, machine))
    shown = {way.option: way for way in ways[:2]}
    best = _best(ways)
    if best is not None:
        shown[best.option] = best
    return tuple(_plan(way, best=way is best) for way in shown.values())


def highest_rank(case: Case) -> int | None:
    """The highest rank of its adapters that fits at the scenario's batch and length, at most the hidden size, beyond
    which a matrix has no further ranks; 0 for none, None without adapters that have a rank."""
    scenario = case.scenario
    if not isinstance(scenario, TrainingScenario) or scenario.training.lora is None:
        return None
    training, lora = scenario.training, scenario.training.lora
    if lora.method is not None and not lora.method.rank:
        return None

    def excess(rank: int) -> int:
        ranked = replace(scenario, training=replace(training, lora=replace(lora, rank=rank)))
        return beyond(case.estimate(ranked), ranked)

    return last_within(excess, case.model.architecture.hidden_size or lora.rank)


def _ways(model: Model, options: Options, machine: Machine) -> Iterator[_Way]:
    """Ways that the software takes and the estimate knows: the one that trains most first, without recomputation first,
    as that is faster. The first two are as asked."""
    method = trained_as(options) or "full"
    trainer = find_trainer(options.train)
    asked = Case.of(model, options, machine).scenario
    recomputes = isinstance(asked, TrainingScenario) and asked.training.checkpointing == "full"
    for other in _LATER[method]:
        for checkpointing in (recomputes, not recomputes) if other == method else (False, True):
            words = []
            if other != method:
                words.append(f"{'--train-method' if trainer else '--train'} {other}")
            if checkpointing != recomputes:
                words.append("--gradient-checkpointing" if checkpointing else "--no-gradient-checkpointing")
            chosen = replace(options, gradient_checkpointing=checkpointing) if words else options
            if checkpointing and words:
                chosen = replace(chosen, selective_checkpointing=False)
            chosen = replace(chosen, train_method=other) if trainer else replace(chosen, train=other)
            yield from _known(model, chosen, machine, words)


def _known(model: Model, options: Options, machine: Machine, words: list[str]) -> Iterator[_Way]:
    """The way of these options, with all linear modules adapted where there are no default targets."""
    try:
        case = Case.of(model, options, machine)
    except NoTargetsError:
        if options.lora_targets:
            return
        words = [*words, f"--lora-targets {ALL_LINEAR}"]
        yield from _known(model, replace(options, lora_targets=(ALL_LINEAR,)), machine, words)
        return
    except InvalidScenarioError:
        return
    scenario = case.scenario
    if isinstance(scenario, TrainingScenario) and not case.estimate(scenario).is_lower_bound:
        yield _Way(option=" ".join(words), case=case, scenario=scenario)


def _best(ways: list[_Way]) -> _Way | None:
    """The first that fits, of ways in the order of what they train; of one method, that without recomputation."""
    fitting = [way for way in ways if way.case.fits(way.scenario.batch, way.scenario.seq)]
    if not fitting:
        return None
    return min(fitting, key=lambda way: ([*_LATER].index(way.scenario.training.method), _recomputes(way)))


def _recomputes(way: _Way) -> bool:
    return way.scenario.training.checkpointing == "full"


def _plan(way: _Way, *, best: bool) -> Plan:
    case, scenario = way.case, way.scenario
    batch = case.max_batch()
    at = max(batch or 0, batch_steps(case.options)[0]) if batch is not None else scenario.batch
    estimate, taken = case.taken(at, scenario.seq)
    return Plan(
        option=way.option,
        method=scenario.training.method,
        adapters=_title(scenario.training.lora),
        checkpointing=_recomputes(way),
        seq=scenario.seq,
        batch=at,
        total=estimate.total,
        usable=usable(estimate.terms, taken),
        max_batch=batch,
        max_seq=case.max_seq(),
        max_rank=highest_rank(case),
        gpus=_gpus(case),
        best=best,
    )


def _title(lora: Lora | None) -> str:
    """The name of another method of PEFT; "" for LoRA, and without adapters."""
    return lora.method.title if lora is not None and lora.method is not None else ""


def _gpus(case: Case) -> int | None:
    """The fewest accelerators: as sharding was asked, otherwise with FSDP."""
    options = case.options
    if not options.zero and not options.fsdp:
        if case.fits(case.scenario.batch, case.scenario.seq):
            return case.scenario.parallel.gpus
        options = replace(options, fsdp=True)
    return fewest(case.model, options, case.machine)
