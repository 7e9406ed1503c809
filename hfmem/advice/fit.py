"""Whether a model fits, and the largest batch, longest context and fewest accelerators that fit.

All of these invert the estimate, the same function that reports print, without separate formulas. It increases with
batch and length, so that what is found is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from hfmem.advice.bisection import largest, last_within
from hfmem.advice.speed import speed
from hfmem.advice.values import Fit
from hfmem.engines.inference import Prepared
from hfmem.engines.inference import estimate as estimate_memory
from hfmem.engines.protocol import Grows, Limits, Offloads, Pads, Places, Shaped
from hfmem.engines.table import USUAL, engine
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Estimate, Margin, Term
from hfmem.estimator.weights.loaded import weights_of
from hfmem.hardware.values import Machine
from hfmem.mapper.interpret import Model
from hfmem.options.words import OBJECTIVES
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import reserve_of, resolve, server_of
from hfmem.scenario.runtime import for_model
from hfmem.scenario.spread import plan_of

if TYPE_CHECKING:
    from hfmem.estimator.serving import Offload

__all__ = [
    "MOST",
    "Case",
    "Verdict",
    "anywhere",
    "beyond",
    "fewest",
    "fit_all",
    "fit_of",
    "held",
    "judged",
    "machines",
    "more",
    "named",
    "usable",
]

MOST: Final = 10**9  # batch or tokens: a larger result counts as unlimited
_NODE: Final = 8  # accelerators per node: tensor parallelism does not go beyond a node
_MOST_NODES: Final = 16
_MOST_FILLED: Final = 16  # accelerators of one machine
_MOST_REPLICAS: Final = 128


def machines(options: Options) -> tuple[Machine, ...]:
    """The machines given with `--gpu`, without duplicates. For `auto` on a machine without accelerators, a placeholder,
    so that the report still has a row for it.

    Raises:
        InvalidScenarioError: a name is not in the table.
    """
    from hfmem.hardware.detect import absent, detect, machine  # only needed with --gpu, and queries the system

    found: list[Machine] = []
    for name in options.gpu:
        auto = name.lower() == "auto"
        here = [_unfilled(row, options) for row in detect()] if auto else [machine(name)]
        found += [replace(row, asked=name) for row in here or [absent()]]
    return tuple(dict.fromkeys(found))


def _unfilled(machine: Machine, options: Options) -> Machine:
    """This machine without the count of its accelerators, as how many are needed is a result; with it where modules are
    put on all of them."""
    return machine if options.device_map is not None and options.gpus is None else replace(machine, count=None)


def usable(terms: Iterable[Term], scenario: Scenario) -> int:
    """Bytes of the scenario's accelerator that an estimate may use."""
    return engine(scenario.runtime).usable(tuple(terms), scenario)


def held(estimate: Estimate, scenario: Scenario, more: int = 0) -> bool:
    """Whether the known terms of an estimate, plus `more` bytes, fit, and the engine does not refuse it."""
    started = not estimate.refused and not estimate.refused_by_most
    return started and estimate.total + more <= usable(estimate.terms, scenario)


def beyond(estimate: Estimate, scenario: Scenario) -> int:
    """Bytes that are missing; 0 or less where it fits."""
    if estimate.refused or estimate.refused_by_most:
        return MOST**2
    return estimate.total - usable(estimate.terms, scenario)


def anywhere(options: Options) -> Options:
    """The options for another machine than the given one, so that its accelerator count does not constrain the plan."""
    return replace(options, gpu=("auto",)) if options.gpu else options


def named(machine: Machine) -> str:
    """The `--gpu` option for a machine."""
    count = f"{machine.count}x " if machine.count is not None else ""
    return f"--gpu '{count}{machine.accelerator.name}'"


def more(machine: Machine, count: int) -> tuple[str, Machine]:
    """The option for using `count` of a machine's accelerators, and the resulting machine. "" if the machine was given
    without a count, as the parallel sizes then suffice."""
    if machine.count is None:
        return "", machine
    if count <= machine.count:
        return f"--gpus {count}", replace(machine, count=None)
    there = Machine(accelerator=machine.accelerator, count=count)
    return named(there), there


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model in one scenario, to be evaluated for other batches and lengths.

    Attributes:
        known: estimates with their scenarios, by batch and length.
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
        """The scenario with another batch and length; it is resolved anew for encoder-decoders, whose source length may
        depend on them, and for trainers of TRL, of which the scored tokens and the mask do."""
        if self.model.architecture.source is None and self.options.train not in OBJECTIVES:
            served = self.scenario.serving is not None
            settings = server_of(self.options, self.model, self.scenario.gpu, seq) if served else None
            return replace(self.scenario, batch=batch, seq=seq, serving=settings)
        prompt = None if self.options.prompt is None else min(self.options.prompt, seq)
        completion = self.options.max_completion_length
        completion = None if completion is None else min(completion, seq)
        options = replace(self.options, batch=batch, seq=seq, prompt=prompt, max_completion_length=completion)
        return resolve(options, self.model, self.machine)

    def estimate(self, scenario: Scenario) -> Estimate:
        """The estimate of one of the case's scenarios."""
        if scenario.mode == "training" or scenario.method == "textbook" or scenario.serving != self.scenario.serving:
            return estimate_memory(self.model, scenario)  # vLLM's step size may depend on the request length
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
        """Whether the known terms fit."""
        return held(*self.taken(batch, seq))

    def max_batch(self) -> int | None:
        """The largest batch at the scenario's length; None if unlimited. A trainer may take some batches only, and a
        server no more than it runs at once."""
        runs = engine(self.scenario.runtime)
        limit = runs.most_at_once(self.scenario) if isinstance(runs, Limits) and not self.scenario.train else None
        if limit is not None:
            return self._last(lambda batch: (batch, self.scenario.seq), limit)
        least, step = 1, 1
        if self.options.train in OBJECTIVES:
            from hfmem.scenario.trainers import batch_steps  # its tables are for training only

            least, step = batch_steps(self.options)
        found = self._last(lambda steps: (steps * step, self.scenario.seq), MOST // step) * step
        return None if found == MOST // step * step else found if found >= least else 0

    def max_seq(self) -> int:
        """The longest context at the scenario's batch, limited to the model's maximum."""
        longest = self.model.architecture.max_positions or MOST
        batch, known = self.scenario.batch, self.scenario.seq
        if not self._lines and known <= longest and self.fits(batch, known):
            # shorter ones fit as well, but may be too short for a request that a server is told to expect
            return known - 1 + largest(lambda more: self.fits(batch, known - 1 + more), longest - known + 1)
        return self._last(lambda seq: (batch, seq), longest)

    @property
    def _lines(self) -> bool:
        """Whether memory grows almost in proportion to batch and length."""
        return bool(self.scenario.train) or isinstance(engine(self.scenario.runtime), Grows)

    def _last(self, shape: Callable[[int], tuple[int, int]], most: int) -> int:
        """The last number whose batch and length fit."""
        if not self._lines:
            return largest(lambda number: self.fits(*shape(number)), most)
        return last_within(lambda number: beyond(*self.taken(*shape(number))), most)


def fit_all(model: Model, options: Options, machines: Iterable[Machine], *, limits: bool = True) -> tuple[Fit, ...]:
    """The fit of the model on each machine; without `limits`, only the verdict, as limits take a search."""
    return tuple(_fit(model, options, machine, limits=limits) for machine in machines)


def _fit(model: Model, options: Options, machine: Machine, *, limits: bool) -> Fit:
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
            gpus_needed=_gpus_needed(model, options, machine) if limits else None,
            reserve=reserve_of(options),
            refused=error.reason,
            never=True,
        )
    found = fit_of(case, parts=limits)
    if not limits or found.estimate is None or found.estimate.is_lower_bound:
        return found
    if isinstance(runs := engine(case.scenario.runtime), Shaped):  # it has no length, and is on one accelerator
        return replace(found, max_batch=case.max_batch(), largest=tuple(_largest(case, runs)))
    needed = None if found.never or model.network is not None else _gpus_needed(model, options, machine)
    longest = None if model.lengthless else case.max_seq()
    return replace(found, max_batch=case.max_batch(), max_seq=longest, gpus_needed=needed)


def _largest(case: Case, runs: Shaped) -> Iterator[tuple[str, int]]:
    """The largest sizes of what is made that fit, one after another with the others as asked."""
    for shape in runs.shapes(case.model, case.scenario):

        def holds(number: int, at: Callable[[int], Scenario] = shape.at) -> bool:
            scenario = at(number)
            return held(case.estimate(scenario), scenario)

        if found := largest(holds, shape.most):
            yield from shape.sizes(found)


def fit_of(case: Case, *, parts: bool = True) -> Fit:
    """The fit of a case on its machine, without any search for limits; without `parts`, nor for the part that fits."""
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
        offload=_offload(model, scenario) if parts else None,
        speed=speed(model, scenario, estimate),
    )


def _offload(model: Model, scenario: Scenario) -> Offload | None:
    """The most of a model that fits, of an engine that leaves the rest in the host's memory."""
    runs = engine(scenario.runtime)
    return runs.offload(model, scenario) if isinstance(runs, Offloads) else None


class Verdict(NamedTuple):
    """Whether an estimate fits, whether it leaves less than the safety margin, and that margin."""

    fits: bool | None
    tight: bool
    margin: Margin


def judged(estimate: Estimate, scenario: Scenario) -> Verdict:
    """The verdict on an estimate for the scenario's accelerator."""
    runs, room = engine(scenario.runtime), usable(estimate.terms, scenario)
    margin = runs.margin(estimate, scenario)
    fits = _fits(estimate, room)
    loaded = (estimate.loading and estimate.loading.gpu) or 0
    tight = fits is True and (room - estimate.total < margin.nbytes or loaded > room)
    return Verdict(fits=fits, tight=tight, margin=margin)


def _fits(estimate: Estimate, room: int) -> bool | None:
    """Whether it fits and starts; None if a part is unknown, or if it fits only with some of several recipes."""
    if estimate.refused or estimate.low > room:
        return False
    return None if estimate.total > room or estimate.refused_by_most or estimate.is_lower_bound else True


def _gpus_needed(model: Model, options: Options, machine: Machine) -> int | None:
    """The fewest accelerators that fit: tensor-parallel up to 8, then pipeline stages of 8 each."""
    if options.method == "textbook":
        return None  # the article's formulas have no parallelism
    if options.train:
        return _replicas_needed(model, options, machine)
    runs = engine(options.runtime or USUAL)
    if isinstance(runs, Places) and (placing := runs.placing(options)) is not None:
        return None if placing.limits else _filled(model, options, machine)
    single = replace(anywhere(options), gpus=None, tp=1, pp=None, dp=None, ep=None)
    machine = replace(machine, count=None)
    weights = _weights(model, single, machine) - _left(model, single, machine)

    def holds(tp: int, pp: int) -> bool:
        if weights > tp * pp * machine.accelerator.memory:
            return False  # a lower bound that avoids an estimate: each rank has at least its share of the weights
        try:
            case = Case.of(model, replace(single, tp=tp, pp=pp), machine)
        except InvalidScenarioError:
            return False
        return case.fits(case.scenario.batch, case.scenario.seq)

    for tp in range(1, _NODE + 1):
        if holds(tp, 1):
            return tp
    # bisection is valid, as with one more stage no stage has more layers than before
    short = largest(lambda pp: not holds(_NODE, pp), _MOST_NODES)
    return None if short == _MOST_NODES else _NODE * (short + 1)


def _filled(model: Model, options: Options, machine: Machine) -> int | None:
    """The fewest accelerators that have room for all modules of a model that is put on them."""
    for count in range(1, _MOST_FILLED + 1):
        there = replace(machine, count=count)
        case = Case.of(model, replace(anywhere(options), gpus=None), there)
        estimate = case.estimate(case.scenario)
        if estimate.is_lower_bound:
            return None
        placement = estimate.placement
        if placement is not None and not placement.offloaded and held(estimate, case.scenario):
            return count
    return None


def _left(model: Model, options: Options, machine: Machine) -> int:
    """Bytes of the weights that the options leave in the host's memory."""
    try:
        case = Case.of(model, options, machine)
    except InvalidScenarioError:
        return 0
    return sum(term.nbytes for term in case.estimate(case.scenario).host or () if term.group == "weights")


def _replicas_needed(model: Model, options: Options, machine: Machine) -> int | None:
    """The fewest accelerators on which sharded training fits; None without sharding, as more replicas then do not
    help."""
    return fewest(model, options, machine) if options.zero or options.fsdp else None


def fewest(model: Model, options: Options, machine: Machine) -> int | None:
    """The fewest accelerators that a sharded training fits on: replicas times the other parallel sizes; None if that is
    unknown, or if 128 replicas are not enough."""
    if options.shard is not None or options.ep is not None:
        return None
    machine, group = replace(machine, count=None), (options.tp or 1) * (options.pp or 1) * (options.cp or 1)

    def short(replicas: int) -> bool:
        case = Case.of(model, replace(anywhere(options), gpus=None, dp=replicas), machine)
        estimate = case.estimate(case.scenario)
        return estimate.is_lower_bound or not held(estimate, case.scenario)

    try:
        found = largest(short, _MOST_REPLICAS)
    except InvalidScenarioError:
        return None
    return None if found == _MOST_REPLICAS else group * (found + 1)


def _weights(model: Model, options: Options, machine: Machine) -> int:
    """Bytes of the weights on one accelerator, without additions of engines."""
    scenario = resolve(options, model, machine)
    return max(weights_of(model, scenario, each) for each in engine(scenario.runtime).kept(model, scenario))
