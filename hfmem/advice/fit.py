"""Does it fit, and what does: the largest batch, the longest context, the fewest accelerators.

Everything is answered by inverting the estimate: bisection on the very function that reports print, never a formula of
its own. It rises with batch and length, so that bisection is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from hfmem.engines.inference import Prepared
from hfmem.engines.inference import estimate as estimate_memory
from hfmem.engines.table import engine
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.values import Estimate, Scenario, Term, total_of
from hfmem.estimator.weights.loaded import weight_terms
from hfmem.hardware.table import Accelerator, Machine, find
from hfmem.mapper.interpret import Model
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve

__all__ = ["Case", "Fit", "fit_all", "largest", "machines", "usable"]

MOST: Final = 10**9
_NODE: Final = 8
_MOST_NODES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A model held against one kind of accelerator.

    Attributes:
        machine: the accelerators.
        parallel: how many of them the estimate uses, and how.
        usable: bytes of one that the estimate may take.
        estimate: what it takes; None where the engine refuses the split.
        fits: None where a part is unknown, and what is known does fit.
        max_batch: sequences of the asked length that fit; 0 for none, None where unknown or without limit.
        max_seq: tokens that fit at the asked batch, at most the model's own maximum; 0 for none, None where unknown.
        gpus_needed: the fewest that fit (tensor-parallel up to 8, then 8 of them a pipeline stage); None where unknown,
            or where 128 are not enough.
        refused: why the engine refuses the split; "" where it does not.
    """

    machine: Machine
    parallel: Parallel
    usable: int
    estimate: Estimate | None = None
    fits: bool | None = None
    max_batch: int | None = None
    max_seq: int | None = None
    gpus_needed: int | None = None
    refused: str = ""

    @property
    def gpu(self) -> Accelerator:
        """The accelerator."""
        return self.machine.accelerator

    @property
    def headroom(self) -> int | None:
        """Bytes that stay free on the most loaded one; negative where it does not fit."""
        return None if self.estimate is None else self.usable - self.estimate.total


def machines(options: Options) -> tuple[Machine, ...]:
    """What is asked for with `--gpu`; nothing for `auto` where this machine has no accelerator.

    Raises:
        InvalidScenarioError: a name that is not in the table.
    """
    from hfmem.hardware.detect import cpu, detect  # asks the system, for runs that want it only

    found: list[Machine] = []
    for name in options.gpu:
        if name.lower() == "auto":
            found += [replace(machine, count=None) for machine in detect()]  # how many it takes is a part of the answer
        else:
            found.append(cpu() if name.lower() == "cpu" else find(name))
    return tuple(dict.fromkeys(found))


def usable(terms: Iterable[Term], scenario: Scenario) -> int:
    """Bytes of the scenario's accelerator that an estimate may take."""
    return engine(scenario.runtime).usable(tuple(terms), scenario)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model under one scenario, to be asked for other batches and lengths."""

    model: Model
    options: Options
    machine: Machine
    scenario: Scenario
    prepared: Prepared

    @classmethod
    def of(cls, model: Model, options: Options, machine: Machine) -> Case:
        """The case of some options on a machine.

        Raises:
            InvalidScenarioError: the engine would refuse the split.
        """
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

    def fits(self, batch: int, seq: int) -> bool:
        """Whether what is known fits."""
        scenario = self.at(batch, seq)
        estimate = self.estimate(scenario)
        return estimate.total <= usable(estimate.terms, scenario)

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
    try:
        case = Case.of(model, options, machine)
    except InvalidScenarioError as error:
        scenario = resolve(options, model, machine)
        needed = _gpus_needed(model, options, machine)
        room = usable((), scenario)
        return Fit(machine=machine, parallel=scenario.parallel, usable=room, refused=error.reason, gpus_needed=needed)
    estimate = case.estimate(case.scenario)
    room = usable(estimate.terms, case.scenario)
    if estimate.is_lower_bound:
        fits = None if estimate.total <= room else False
        return Fit(machine=machine, parallel=case.scenario.parallel, usable=room, estimate=estimate, fits=fits)
    return Fit(
        machine=machine,
        parallel=case.scenario.parallel,
        usable=room,
        estimate=estimate,
        fits=estimate.total <= room,
        max_batch=case.max_batch(),
        max_seq=case.max_seq(),
        gpus_needed=_gpus_needed(model, options, machine),
    )


def _gpus_needed(model: Model, options: Options, machine: Machine) -> int | None:
    """The fewest accelerators whose most loaded one fits: tensor-parallel up to 8, then 8 of them a stage."""
    if options.method == "textbook" or options.train:
        return None  # the article knows one accelerator, and training splits otherwise
    single = replace(options, gpus=None, tp=1, pp=None, dp=None, ep=None)
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


def _weights(model: Model, options: Options, machine: Machine) -> int:
    """Bytes of the weights on one accelerator, without what engines add."""
    terms, _ = weight_terms(model, resolve(options, model, machine))
    return total_of(terms)
