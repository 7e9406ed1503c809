"""Does it fit, and what does: the largest batch, the longest context, the fewest accelerators.

Everything is answered by inverting the estimate: bisection on the very function that reports print, never a formula of
its own. It rises with batch and length, so that bisection is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from hfmem.advice.values import Fit
from hfmem.engines.inference import Prepared
from hfmem.engines.inference import estimate as estimate_memory
from hfmem.engines.protocol import Offloads, Pads
from hfmem.engines.table import engine
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.values import Estimate, Margin, Offload, Scenario, Term
from hfmem.estimator.weights.loaded import weights_of
from hfmem.hardware.values import Machine
from hfmem.mapper.interpret import Model
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import reserve_of, resolve
from hfmem.scenario.runtime import for_model
from hfmem.scenario.spread import plan_of

__all__ = [
    "MOST",
    "Case",
    "Verdict",
    "anywhere",
    "fit_all",
    "fit_of",
    "held",
    "judged",
    "largest",
    "machines",
    "more",
    "named",
    "usable",
]

MOST: Final = 10**9
"""A number of sequences or tokens that no machine holds."""

_NODE: Final = 8
_MOST_NODES: Final = 16
_REPLICAS: Final = (1, 2, 4, 8, 16, 32, 64, 128)


def machines(options: Options) -> tuple[Machine, ...]:
    """What is asked for with `--gpu`, each once, with the word for it; for `auto` where this machine has no accelerator
    one that is not there, so that nothing is left out of an answer.

    Raises:
        InvalidScenarioError: a name that is not in the table.
    """
    from hfmem.hardware.detect import absent, detect, machine  # asks the system, for runs that want it only

    found: list[Machine] = []
    for name in options.gpu:
        auto = name.lower() == "auto"  # how many it takes is a part of the answer
        here = [replace(row, count=None) for row in detect()] if auto else [machine(name)]
        found += [replace(row, asked=name) for row in here or [absent()]]
    return tuple(dict.fromkeys(found))


def usable(terms: Iterable[Term], scenario: Scenario) -> int:
    """Bytes of the scenario's accelerator that an estimate may take."""
    return engine(scenario.runtime).usable(tuple(terms), scenario)


def held(estimate: Estimate, scenario: Scenario, more: int = 0) -> bool:
    """Whether what is known of an estimate, and so many bytes more, fits, and the engine does not refuse it."""
    started = not estimate.refused and not estimate.refused_by_most
    return started and estimate.total + more <= usable(estimate.terms, scenario)


def anywhere(options: Options) -> Options:
    """The options for a machine that is not the one they name, so that its number of accelerators binds nothing."""
    return replace(options, gpu=("auto",)) if options.gpu else options


def named(machine: Machine) -> str:
    """The option that names a machine."""
    count = f"{machine.count}x " if machine.count is not None else ""
    return f"--gpu '{count}{machine.accelerator.name}'"


def more(machine: Machine, count: int) -> tuple[str, Machine]:
    """The option that takes so many of a machine's accelerators, and the machine then; "" where it was named without a
    number, so that the sizes of a split do."""
    if machine.count is None:
        return "", machine
    if count <= machine.count:
        return f"--gpus {count}", replace(machine, count=None)
    there = Machine(accelerator=machine.accelerator, count=count)
    return named(there), there


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model under one scenario, to be asked for other batches and lengths.

    Attributes:
        known: estimates that were made with their scenarios, by batch and length.
    """

    model: Model
    options: Options
    machine: Machine
    scenario: Scenario
    prepared: Prepared
    known: dict[tuple[int, int], tuple[Estimate, Scenario]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, model: Model, options: Options, machine: Machine) -> Case:
        """The case of some options on a machine.

        Raises:
            InvalidScenarioError: the engine would refuse the split.
        """
        options = for_model(options, model)
        scenario = resolve(options, model, machine)
        return cls(
            model=model,
            options=options,
            machine=machine,
            scenario=scenario,
            prepared=Prepared(model=model) if scenario.train else Prepared.of(model, scenario),
        )

    def at(self, batch: int, seq: int) -> Scenario:
        """The scenario with another batch and length; an encoder's length may follow."""
        if self.model.architecture.source is None:
            runs = engine(self.scenario.runtime)
            settings = runs.settings(self.options, self.scenario.gpu, seq) if self.scenario.serving else None
            return replace(self.scenario, batch=batch, seq=seq, serving=settings)
        prompt = None if self.options.prompt is None else min(self.options.prompt, seq)
        return resolve(replace(self.options, batch=batch, seq=seq, prompt=prompt), self.model, self.machine)

    def estimate(self, scenario: Scenario) -> Estimate:
        """The estimate of one of the case's scenarios."""
        if scenario.mode == "training" or scenario.method == "textbook" or scenario.serving != self.scenario.serving:
            return estimate_memory(self.model, scenario)  # a step of the engine may be shorter for short requests
        return self.prepared.estimate(scenario)

    def taken(self, batch: int, seq: int) -> tuple[Estimate, Scenario]:
        """The estimate of another batch and length, made once for all that take the same."""
        runs = engine(self.scenario.runtime)
        if isinstance(runs, Pads):
            seq = runs.padded(batch, seq)
        if (batch, seq) not in self.known:
            scenario = self.at(batch, seq)
            self.known[batch, seq] = self.estimate(scenario), scenario
        return self.known[batch, seq]

    def fits(self, batch: int, seq: int) -> bool:
        """Whether what is known fits."""
        return held(*self.taken(batch, seq))

    def max_batch(self) -> int | None:
        """The most sequences of the asked length; None without limit."""
        found = largest(lambda batch: self.fits(batch, self.scenario.seq), MOST)
        return None if found == MOST else found

    def max_seq(self) -> int:
        """The longest context at the asked batch, at most what the model is made for."""
        longest = self.model.architecture.max_positions or MOST
        return largest(lambda seq: self.fits(self.scenario.batch, seq), longest)


def largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` for which it holds, 0 for none; it must hold for all below."""
    low, high = 0, 1
    while high < most and holds(high):
        low, high = high, high * 2
    high = min(high, most)
    if high == most and holds(most):
        return most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def fit_all(model: Model, options: Options, machines: Iterable[Machine]) -> tuple[Fit, ...]:
    """The model held against each machine."""
    return tuple(_fit(model, options, machine) for machine in machines)


def _fit(model: Model, options: Options, machine: Machine) -> Fit:
    if not machine.there:
        return Fit(machine=machine, parallel=plan_of(options, machine), usable=0)
    try:
        case = Case.of(model, options, machine)
    except InvalidScenarioError as error:
        return Fit(
            machine=machine,
            parallel=plan_of(options, machine),
            usable=max(0, machine.accelerator.memory - reserve_of(options)),
            fits=False,
            gpus_needed=_gpus_needed(model, options, machine),
            reserve=reserve_of(options),
            refused=error.reason,
            never=True,
        )
    found = fit_of(case)
    if found.estimate is None or found.estimate.is_lower_bound:
        return found
    needed = None if found.never else _gpus_needed(model, options, machine)
    return replace(found, max_batch=case.max_batch(), max_seq=case.max_seq(), gpus_needed=needed)


def fit_of(case: Case) -> Fit:
    """A case held against its machine, as it was asked: nothing is searched for."""
    model, scenario = case.model, case.scenario
    estimate = case.estimate(scenario)
    verdict, room = judged(estimate, scenario), usable(estimate.terms, scenario)
    return Fit(
        machine=case.machine,
        parallel=scenario.parallel,
        usable=room,
        estimate=estimate,
        fits=verdict.fits,
        tight=verdict.tight,
        margin=verdict.margin,
        reserve=scenario.reserve,
        refused=estimate.refused,
        never=bool(engine(scenario.runtime).refused(model, scenario)),  # then no number of them is enough
        offload=_offload(model, scenario),
    )


def _offload(model: Model, scenario: Scenario) -> Offload | None:
    """The most of a model that fits, of an engine that leaves the rest in the host's memory."""
    runs = engine(scenario.runtime)
    return runs.offload(model, scenario) if isinstance(runs, Offloads) else None


class Verdict(NamedTuple):
    """Whether an estimate fits, with less room than its margin says, and that margin."""

    fits: bool | None
    tight: bool
    margin: Margin


def judged(estimate: Estimate, scenario: Scenario) -> Verdict:
    """The verdict on an estimate of the scenario's accelerator."""
    runs, room = engine(scenario.runtime), usable(estimate.terms, scenario)
    margin = runs.margin(estimate, scenario)
    fits = _fits(estimate, room)
    loaded = (estimate.loading and estimate.loading.gpu) or 0
    tight = fits is True and (room - estimate.total < margin.nbytes or loaded > room)
    return Verdict(fits=fits, tight=tight, margin=margin)


def _fits(estimate: Estimate, room: int) -> bool | None:
    """Whether it fits and starts; None where a part is not known, or where by the smallest of several recipes only."""
    if estimate.refused or estimate.low > room:
        return False
    return None if estimate.total > room or estimate.refused_by_most or estimate.is_lower_bound else True


def _gpus_needed(model: Model, options: Options, machine: Machine) -> int | None:
    """The fewest accelerators whose most loaded one fits: tensor-parallel up to 8, then 8 of them a stage."""
    if options.method == "textbook":
        return None  # the article knows one accelerator
    if options.train:
        return _replicas_needed(model, options, machine)
    single = replace(anywhere(options), gpus=None, tp=1, pp=None, dp=None, ep=None)
    machine = replace(machine, count=None)
    weights = _weights(model, single, machine)

    def holds(tp: int, pp: int) -> bool:
        if weights > tp * pp * machine.accelerator.memory:
            return False  # no split holds less than its share of the weights
        try:
            case = Case.of(model, replace(single, tp=tp, pp=pp), machine)
        except InvalidScenarioError:
            return False
        return case.fits(case.scenario.batch, case.scenario.seq)

    for tp in range(1, _NODE + 1):
        if holds(tp, 1):
            return tp
    short = largest(lambda pp: not holds(_NODE, pp), _MOST_NODES)  # a stage more has no more layers than before
    return None if short == _MOST_NODES else _NODE * (short + 1)


def _replicas_needed(model: Model, options: Options, machine: Machine) -> int | None:
    """The fewest data-parallel accelerators of training that fit, where ranks share what they hold: a power of two of
    what the other sizes make; None where nothing is shared."""
    if not (options.zero or options.fsdp) or options.shard is not None or options.ep is not None:
        return None
    machine, group = replace(machine, count=None), (options.tp or 1) * (options.pp or 1) * (options.cp or 1)
    for replicas in _REPLICAS:
        asked = replace(anywhere(options), gpus=None, dp=replicas)
        try:
            case = Case.of(model, asked, machine)
        except InvalidScenarioError:
            return None
        estimate = case.estimate(case.scenario)
        if held(estimate, case.scenario):
            return None if estimate.is_lower_bound else group * replicas
    return None


def _weights(model: Model, options: Options, machine: Machine) -> int:
    """Bytes of the weights on one accelerator, without what engines add."""
    scenario = resolve(options, model, machine)
    return max(weights_of(model, scenario, each) for each in engine(scenario.runtime).kept(model, scenario))
