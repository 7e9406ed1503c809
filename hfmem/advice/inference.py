"""Changes that would help a model that does not fit: single changes, each with its estimated total."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from hfmem.advice.fit import Case, anywhere, judged, more, named
from hfmem.advice.values import Advice, Fit
from hfmem.dtypes import RUN_DTYPES
from hfmem.engines.protocol import Places, Whole
from hfmem.engines.table import USUAL, engine, find_engine
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.values import Estimate
from hfmem.hardware.table import accelerators
from hfmem.hardware.values import Machine
from hfmem.mapper.interpret import Model
from hfmem.options.option import declared
from hfmem.scenario.options import Options

__all__ = ["advise"]

_TENSOR: Final = 8


def advise(model: Model, options: Options, fit: Fit) -> tuple[Advice, ...]:
    """The changes that lower the total of a model that does not fit; those that make it fit come first."""
    if fit.fits is not False or fit.estimate is None or options.train or options.method == "textbook":
        return ()  # advice for training is given with or without an accelerator, in `advice.training`
    before = fit.estimate.total
    found = []
    for option, changed, machine in _changes(model, options, fit):
        try:
            case = Case.of(model, changed, machine)
        except InvalidScenarioError:
            continue
        if engine(case.scenario.runtime).refused(model, case.scenario):
            continue
        estimate = case.estimate(case.scenario)
        verdict = judged(estimate, case.scenario)
        if verdict.fits or (estimate.total < before and before > fit.usable):
            host = _held(estimate)
            found.append(
                Advice(
                    option=option,
                    total=estimate.total,
                    fits=verdict.fits is True,
                    tight=verdict.tight,
                    host=host,
                    moved=host > _held(fit.estimate),
                )
            )
    found = [advice for advice in found if not any(_enough_without(other, advice) for other in found)]
    return tuple(sorted(found, key=lambda advice: (not advice.fits, advice.tight)))


def _held(estimate: Estimate) -> int:
    """Bytes of the model in the host's memory."""
    return sum(term.nbytes for term in estimate.host)


def _enough_without(other: Advice, advice: Advice) -> bool:
    """Whether a part of what is advised helps as much."""
    return set(other.option.split()) < set(advice.option.split()) and other.total <= advice.total


def _changes(model: Model, options: Options, fit: Fit) -> Iterator[tuple[str, Options, Machine]]:
    """All changes: the option, the changed options, and the machine."""
    case = Case.of(model, options, fit.machine)
    scenario = case.scenario
    suggested = engine(options.runtime or USUAL).suggestions
    wide = ("bfloat16",) if scenario.dtype in ("float32", "float64") else ()
    for name in (*wide, *suggested.dtypes):
        if name != scenario.dtype:
            yield f"--dtype {name}", replace(options, dtype=name), fit.machine
    if scenario.kv_dtype in RUN_DTYPES and suggested.kv_dtype:
        yield f"--kv-dtype {suggested.kv_dtype}", replace(options, kv_dtype=suggested.kv_dtype), fit.machine
    for written, fields in suggested.others:
        changed = replace(options, **dict(fields))
        if changed != options:
            yield written, changed, fit.machine
    if scenario.unattended:
        yield "--attention sdpa", replace(options, attention="sdpa"), fit.machine
    yield from _defaults(options, fit.machine)
    shorter = fit.max_seq if fit.max_seq and fit.max_seq < scenario.seq else scenario.seq // 2
    if shorter:
        yield f"--seq {shorter}", replace(options, seq=shorter), fit.machine
    smaller = fit.max_batch if fit.max_batch and fit.max_batch < scenario.batch else 1
    if smaller < scenario.batch:
        yield f"--batch {smaller}", replace(options, batch=smaller), fit.machine
    yield from _more(options, fit)
    larger = _larger(model, options, fit)
    if larger is not None:
        yield named(larger), options, larger


def _defaults(options: Options, machine: Machine) -> Iterator[tuple[str, Options, Machine]]:
    """Removal of each engine option that was given."""
    row = find_engine(options.runtime or USUAL)
    sizes = row.keeps if row is not None else ()  # what is made would be something else
    for option in declared(row.options) if row is not None else ():
        if option.asked(options) and option.name not in (*sizes, "attention"):
            yield f"without {option.flags[0]}", replace(options, **{option.name: option.default}), machine


def _more(options: Options, fit: Fit) -> Iterator[tuple[str, Options, Machine]]:
    """More accelerators of the same kind: the fewest that fit."""
    needed = fit.gpus_needed
    if needed is None or needed <= fit.parallel.gpus:
        return
    runs = engine(options.runtime or USUAL)
    placed = isinstance(runs, Places) and runs.placing(options) is not None
    if placed or isinstance(runs, Whole):  # it has no sizes of a split: the machine says how many
        there = Machine(accelerator=fit.gpu, count=needed)
        yield named(there), replace(anywhere(options), gpus=None), there
        return
    tp, pp = min(needed, _TENSOR), -(-needed // _TENSOR)
    changed = replace(anywhere(options), gpus=None, tp=tp, pp=pp, dp=None, ep=None)
    kind, machine = more(fit.machine, tp * pp)
    kind = kind or (f"--gpus {tp * pp}" if options.gpus is not None else "")
    sizes = "" if kind and pp == 1 else f"--tp {tp}" + (f" --pp {pp}" if pp > 1 else "")
    yield f"{kind} {sizes}".strip(), changed, machine


def _larger(model: Model, options: Options, fit: Fit) -> Machine | None:
    """The smallest accelerator of the same vendor and kind that fits (for CPUs: of NVIDIA)."""
    vendor, kind = (fit.gpu.vendor, fit.gpu.kind) if fit.gpu.vendor else ("nvidia", "discrete")
    weights = (fit.estimate.group("weights") or 0) if fit.estimate else 0
    # a newer GPU of the same size may keep weights packed that this one unpacks, which saves up to a factor of four
    least = max(fit.gpu.memory - 1, weights // 4)
    rows = [row for row in accelerators() if (row.vendor, row.kind) == (vendor, kind) and row.memory > least]
    for row in sorted(rows, key=lambda row: row.memory):
        machine = Machine(accelerator=row, count=fit.machine.count)
        try:
            case = Case.of(model, options, machine)
        except InvalidScenarioError:
            return None
        if case.fits(case.scenario.batch, case.scenario.seq):
            return machine
    return None
