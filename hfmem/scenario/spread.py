"""The parallel plan for the options: it uses all given accelerators, unless parallel sizes are set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Final

from hfmem.engines.protocol import Regroups
from hfmem.engines.table import USUAL, engine, find_engine
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import Parallel, plan
from hfmem.options.otherwise import Otherwise
from hfmem.refusals.splits import MachineError
from hfmem.scenario.options import Options

if TYPE_CHECKING:
    from hfmem.hardware.values import Machine
    from hfmem.mapper.values import Architecture

__all__ = ["plan_of", "plans", "spread"]

_SIZES: Final = ("tp", "pp", "dp", "cp")


def plan_of(options: Options, machine: Machine | None = None) -> Parallel:
    """The parallel plan. A machine given with a number of accelerators is used completely: accelerators that the sizes
    leave over are used for data parallelism in training, and in inference for tensor parallelism, or for replicas if
    `tp` is set.

    Raises:
        InvalidScenarioError: the sizes contradict each other, or the number of accelerators.
    """
    shared = _shared(options)
    if shared is not None:
        return _regrouped(options, machine, shared)
    if machine is None or machine.count is None or options.method == "textbook":
        return _plan(options, options.gpus)
    there = machine.count
    if options.gpus is not None:
        if options.gpus > there:
            raise MachineError({"gpus": options.gpus}, there, machine.accelerator.name, machine.instance)
        return _plan(options, options.gpus)
    if there % prod(getattr(options, name) or 1 for name in _SIZES):
        raise MachineError(_sizes(options), there, machine.accelerator.name, machine.instance)
    rest = there // prod(getattr(options, name) or 1 for name in _SIZES)
    order = ("dp",) if options.train is not None else ("tp", "dp")
    for name in order:
        if getattr(options, name) is None:
            return _plan(replace(options, **{name: rest}), None)
    return _plan(options, None)


def _shared(options: Options) -> tuple[int, int] | None:
    """The ranks of a replica and of experts, where replicas share their ranks; None where they do not."""
    row = find_engine(options.runtime or USUAL)
    if row is None or not row.regroups:
        return None
    runs = engine(row.name)
    return runs.regrouped(options) if isinstance(runs, Regroups) else None


def _regrouped(options: Options, machine: Machine | None, shared: tuple[int, int]) -> Parallel:
    """The plan of replicas that share their ranks.

    Raises:
        MachineError: as `plan_of`.
    """
    tp, experts = shared
    found = Parallel(tp=tp, pp=options.pp or 1, dp=options.dp or 1, ep=experts)
    if machine is not None and machine.count is not None and machine.count % found.gpus:
        raise MachineError(_sizes(options), machine.count, machine.accelerator.name, machine.instance)
    return found


def plans(options: Options) -> tuple[Parallel, ...]:
    """The plan on each given machine, including this machine's CPU. Without a machine, and for this machine's
    accelerators, of which a plan uses as many as needed, the plan depends only on the sizes.

    Raises:
        InvalidScenarioError: as `plan_of`, or a name is not in the table.
    """
    if not options.gpu:
        return (plan_of(options),)
    from hfmem.hardware.detect import machine  # reads the table, which most runs do not need

    return tuple(plan_of(options, None if name.lower() == "auto" else machine(name)) for name in options.gpu)


def spread(options: Options, machine: Machine | None, architecture: Architecture) -> tuple[Parallel, tuple[str, ...]]:
    """A plan that the engine accepts, and a sentence if it does not use the whole machine, or is unusual.

    Raises:
        InvalidScenarioError: as `plan_of`.
    """
    whole = plan_of(options, machine)
    if machine is None or machine.count is None:
        return whole, ()
    if options.method == "textbook":
        one = _used(1, machine, "the textbook formulas cover a single one")
        return whole, (Otherwise(one),) if machine.count > 1 else ()
    if whole.gpus < machine.count:
        return whole, (_used(whole.gpus, machine, _asked(options)),)
    if options.train is not None or options.gpus is not None:
        return whole, ()
    if options.tp is not None:
        replicas = (
            f"--tp {whole.tp} on {machine.count} {machine.accelerator.name}: --dp {whole.dp} replicas use them all."
        )
        return whole, (replicas,) if options.dp is None and whole.dp > 1 else ()
    return _accepted(options, machine, architecture, whole)


_REST: Final = {"tp": "tensor-parallel", "dp": "data-parallel"}


def _accepted(
    options: Options, machine: Machine, architecture: Architecture, whole: Parallel
) -> tuple[Parallel, tuple[str, ...]]:
    """The first plan that the engine accepts; if it refuses all, the whole machine, whose refusal is then reported."""
    reason = ""
    for found in _plans(whole, replicas=whole.ep > 1 and options.dp is None):
        try:
            engine(options.runtime or USUAL).check_split(architecture, found)
        except InvalidScenarioError as error:
            reason = reason or error.reason
            continue
        if found == whole:
            rest = " and ".join(_REST[name] for name in _REST if getattr(found, name) > 1)
            told = f"--ep {found.ep}: experts are spread over all {found.gpus} GPUs, the rest is {rest}."
            return found, (told,) if found.ep > 1 and architecture.experts else ()
        if found.gpus == whole.gpus:
            return found, (f"{found.describe()} on {found.gpus} × {machine.accelerator.name}: {reason}.",)
        return found, (Otherwise(_used(found.gpus, machine, reason)),)
    return whole, ()


def _plans(whole: Parallel, *, replicas: bool) -> Iterator[Parallel]:
    """The whole machine; if replicas are allowed, fewer tensor-parallel ranks on all accelerators; then fewer
    accelerators."""
    sizes = [size for size in range(whole.tp, 0, -1) if whole.tp % size == 0]
    if replicas:
        yield from (replace(whole, tp=size, dp=whole.dp * whole.tp // size) for size in sizes)
    yield from (replace(whole, tp=size) for size in sizes)


def _plan(options: Options, gpus: int | None) -> Parallel:
    return plan(
        gpus=gpus,
        tp=options.tp,
        pp=options.pp,
        dp=options.dp,
        ep=options.ep,
        cp=options.cp,
        training=options.train is not None,
    )


def _asked(options: Options) -> str:
    """The sizes as the user wrote them."""
    return " ".join(f"--{name} {size}" for name, size in _sizes(options).items())


def _sizes(options: Options) -> dict[str, int]:
    """The sizes that the user gave."""
    return {name: size for name in ("gpus", *_SIZES) if (size := getattr(options, name)) is not None}


def _used(count: int, machine: Machine, why: str) -> str:
    verb = "is" if count == 1 else "are"
    return f"{count} of the {machine.count} {machine.accelerator.name} {verb} used: {why}."
