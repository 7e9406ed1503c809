"""From models to reports, for the public functions and the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hfmem.engines.inference import estimate as estimate_memory
from hfmem.engines.table import find_engine
from hfmem.errors import HfmemError, InvalidFileError, InvalidScenarioError, UntraceableError
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Estimate
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.fetcher.concurrent import Fetched, unforeseen
from hfmem.fetcher.formats import gguf
from hfmem.fetcher.identity import as_read
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.adapted import understood
from hfmem.mapper.bundle import Bundle
from hfmem.mapper.holdings import is_gguf, offered
from hfmem.mapper.interpret import Model, interpret
from hfmem.options.otherwise import Otherwise
from hfmem.options.run import DEFAULT_SEQ, LONGEST
from hfmem.refusals.options import SeveralModelsError
from hfmem.report.values import Report
from hfmem.scenario.check import check, check_again
from hfmem.scenario.options import Options
from hfmem.scenario.pipelines import check_pipeline
from hfmem.scenario.resolve import resolve
from hfmem.scenario.runtime import as_made, for_model
from hfmem.silence import quiet

if TYPE_CHECKING:
    from hfmem.advice.choices import Made
    from hfmem.advice.values import Fit, Plan, Saving
    from hfmem.estimator.traced import Trace
    from hfmem.fetcher.quantisations import Choice
    from hfmem.hardware.values import Machine
    from hfmem.options.access import Access

__all__ = ["accompanied", "completed", "report_all", "report_each", "report_on", "report_on_bundle", "with_holders"]


def accompanied(options: Options, access: Access) -> Options:
    """The options with the models that run beside the asked ones: the draft that `--spec-model` or `--assistant-model`
    names, or the ControlNet.

    Raises:
        HfmemError: such a model was not found, or cannot be read.
    """
    draft, control = options.spec_model or options.assistant_model, options.controlnet
    if options.companions or not (draft or control):
        return options
    from hfmem.fetcher.identity import reference
    from hfmem.fetcher.sources import fetch  # only for runs with such a model

    ref = reference(draft or control or "", "main")
    with HfmemError.concerning(ref.model_id):
        found = fetch(ref, access)
        if control and not draft:
            return replace(options, companions=(("control", understood(found)),))
        return replace(options, companions=(("draft", completed(interpret(found))),))


def report_on(model: Model, options: Options, *, brief: bool = False, apart: bool = False) -> Report:
    """The report on an interpreted model.

    Args:
        model: the model.
        options: the options.
        brief: whether there are no advice and choices, and limits only where it fits: what a list of many needs.
        apart: whether a brief report has a row for each of several quantisations, and limits where it does not fit.

    Raises:
        HfmemError: options contradict each other, or the class cannot be traced.
    """
    check(options)
    check_pipeline(options, model)
    if options.train and model.adapted is not None:
        model = _base_of(model)
    with HfmemError.concerning(model.checkpoint.ref.model_id):
        options = for_model(options, model)
        model = _controlled(_prepared(_as_run(model, options), options), options)
        options = as_made(options, model)
        model = _placeable(model, options)
        options = _settled(model, options)
        among = _choices(model)
        if among and brief and options.gpu and not apart:
            model, among = _largest_fitting(model, options, among), ()
        report = (
            _of_several(model, options, among, brief=brief)
            if among
            else _report(model, options, brief=brief, limits=apart)
        )
        return replace(report, trace=_traced(report.model, options, report.scenario)) if options.trace else report


def with_holders(report: Report, options: Options) -> Report:
    """The report with the machines that its model fits on."""
    from hfmem.advice.holders import holders  # asks every accelerator

    with HfmemError.concerning(report.model.checkpoint.ref.model_id):
        options = as_made(for_model(options, report.model), report.model)
        return replace(report, holders=holders(report.model, options))


def _settled(model: Model, options: Options) -> Options:
    """The options with the longest context that fits on the first accelerator, where that is what is asked for."""
    if options.seq != LONGEST:
        return options
    from hfmem.advice.fit import Case, machines

    machine = next((machine for machine in machines(options) if machine.there), None)
    if machine is None:
        return replace(options, seq=None)
    most = model.architecture.max_positions or DEFAULT_SEQ
    case = Case.of(model, replace(options, seq=most), machine)
    fits = most if case.fits(case.scenario.batch, most) else case.max_seq()
    if not fits:
        return replace(options, seq=most)
    told = f"--seq {fits:,}: {'the maximum of the model, which' if fits == most else 'the longest that'} fits on "
    return replace(options, seq=fits, remarks=(*options.remarks, f"{told}{machine.accelerator.name}."))


def _as_run(model: Model, options: Options) -> Model:
    """The model in the form that its engine runs: a GGUF for those that run nothing else."""
    row, ref = find_engine(options.runtime or ""), model.checkpoint.ref
    if row is not None and row.only == gguf.FORMAT.name and model.blocks is None and _convertible(model):
        from hfmem.mapper.gguf.conversion.models import converted  # only for models that are none

        model = converted(model)
    if row is not None and row.quantisers and find_quantiser(options.dtype or "") and _convertible(model):
        from hfmem.mapper.mlx import converted as quantised  # only for models that are none

        return model if model.quantisation is not None else quantised(model, options.dtype or "")
    if not ref.quant or any(gguf.FORMAT.matches(file.name) for file in model.checkpoint.files):
        return model
    in_name = ref.asked.lower().endswith(f":{ref.quant.lower()}")
    typed = f"':{ref.quant}'" if in_name else f"--quant {ref.quant}"
    note = f"{typed} has no effect: {ref.model_id} has no known GGUF files."
    return replace(model, notes=(*model.notes, Otherwise(note)))


def _prepared(model: Model, options: Options) -> Model:
    """The model with the settings of its processor that a server is started with."""
    given = options.mm_processor_kwargs
    if given is None:
        return model
    processing = {**model.checkpoint.processing, "--mm-processor-kwargs": json.loads(given)}
    return replace(model, checkpoint=replace(model.checkpoint, processing=processing))


def _controlled(model: Model, options: Options) -> Model:
    """A pipeline with the ControlNet that was asked for."""
    control = dict(options.companions).get("control")
    if control is None or model.pipeline is None:
        return model
    from hfmem.engines.diffusers.classes import pipeline_names
    from hfmem.mapper.pipelines.control import with_control  # only with a ControlNet

    return with_control(model, control, pipeline_names())


def _placeable(model: Model, options: Options) -> Model:
    """The model with its class, where modules are to be put on devices and what does that is installed."""
    config = model.checkpoint.config
    packages = ("torch", "accelerate")
    if options.device_map is None or model.placer is not None or config is None or None in map(find_spec, packages):
        return model
    with quiet():  # loads PyTorch and what Accelerate finds beside it
        from hfmem.probe.placer import OfClass

    depth = model.architecture.depth
    return model if (depth or 0) > _DEEPEST else replace(model, placer=OfClass(config=config, depth=depth))


def _convertible(model: Model) -> bool:
    """Whether it is a checkpoint of transformers, without an adapter or GGUF files to choose from."""
    checkpoint = model.checkpoint
    return checkpoint.config is not None and not model.offered and not is_gguf(checkpoint) and model.adapted is None


def _choices(model: Model) -> tuple[Choice, ...]:
    """The quantisations of a model of which none was named."""
    if model.pipeline is not None:
        return ()
    if model.conversion is None:
        return offered(model.checkpoint)
    named = model.conversion.checkpoint.ref.quant
    return () if named else model.conversion.choices()


def _base_of(model: Model) -> Model:
    """The base of an adapter, which training takes: what is trained is a new adapter, or the base itself."""
    if model.adapted is None:
        return model
    base = model.adapted.base
    note = f"Training is of the base model of {model.checkpoint.ref.model_id}: the adapter that it has is left out."
    return replace(base, notes=(note, *base.notes))


def _of_several(model: Model, options: Options, among: Sequence[Choice], *, brief: bool) -> Report:
    """The report on one of several quantisations, with a row for each."""
    from hfmem.advice.choices import compared  # only for repositories and folders with several models

    others, unread = _others(model, among)
    found = compared(model, options, among, others, unread)
    report = _report(found.model, options, brief=brief)
    rows = (
        replace(row, estimate=report.estimate, fits=report.fits) if row.chosen and row.estimate is not None else row
        for row in found.rows
    )
    return replace(report, choices=tuple(rows))


def _largest_fitting(model: Model, options: Options, among: Sequence[Choice]) -> Model:
    """The model of one of several quantisations: that which the report on all of them is about."""
    from hfmem.advice.choices import largest_fitting

    others, unread = _others(model, among)
    return largest_fitting(model, options, among, others, unread)


def _others(model: Model, among: Sequence[Choice]) -> tuple[Made, dict[str, str]]:
    """The other models in a local folder or of a conversion, and why files could not be read."""
    if model.conversion is not None:
        return _quantised(model), {}
    from hfmem.fetcher.local import read_choice

    found: dict[str, Model] = {}
    unread = dict(model.checkpoint.unread)
    for choice in among:
        if choice.files == model.checkpoint.weight_files or choice.file in unread:
            continue
        try:
            other = read_choice(model.checkpoint, choice)
        except InvalidFileError as error:
            unread[choice.file] = error.reason
        else:
            if other is not None:
                found[choice.file] = interpret(other)
    return lambda choice: found.get(choice.file), unread


def _quantised(model: Model) -> Made:
    """What makes the model of a quantisation of a conversion."""
    from hfmem.mapper.gguf.conversion.models import quantised

    conversion = model.conversion
    if conversion is None:
        return lambda choice: None  # noqa: ARG005 - one signature
    source = replace(model, checkpoint=conversion.checkpoint)
    return lambda choice: quantised(source, conversion, choice.quant)


def report_on_bundle(bundle: Bundle, options: Options) -> Report:
    """The report on models that run as one. Each has the same options, and the sequence length resolved for the first.

    Raises:
        HfmemError: options contradict each other, or are not supported for several models together.
    """
    if len(bundle.models) == 1:
        return report_on(bundle.first, options)
    if options.train or options.gpu or options.trace:
        raise SeveralModelsError(("--train", "--gpu", "--trace"))
    with HfmemError.concerning(bundle.first.checkpoint.ref.model_id):
        return _together(bundle, options)


def _together(bundle: Bundle, options: Options) -> Report:
    from hfmem.estimator.bundle import combined  # only for several models that run as one

    scenario = resolve(options, bundle.first)
    estimates = {bundle.roles[0]: estimate_memory(bundle.first, scenario)}
    for role, model in list(bundle.parts)[1:]:
        own = resolve(replace(options, seq=scenario.seq), model)
        alone = estimate_memory(model, own)
        estimates[role] = replace(alone, notes=(*own.chosen, *alone.notes))
    return Report(model=bundle.first, scenario=scenario, estimate=combined(estimates), bundle=bundle)


def _traced(model: Model, options: Options, scenario: Scenario) -> Trace:
    """The peak of the step, measured on what the engine runs."""
    check_again(options, "trace")
    row = find_engine(scenario.runtime)
    if row is None or not row.tracer:
        raise UntraceableError(model.checkpoint.ref.model_id, f"{scenario.runtime} has no trace")
    with quiet():
        found: Trace = import_module(row.tracer).traced(model, scenario)  # what it loads may take seconds
    return found


def _report(model: Model, options: Options, *, brief: bool = False, limits: bool = False) -> Report:
    if not options.gpu:
        scenario = resolve(options, model)
        estimate = estimate_memory(model, scenario)
        return Report(
            model=model, scenario=scenario, estimate=estimate, savings=_savings(model, options, scenario, estimate)
        )
    from hfmem.advice.fit import fit_all, machines
    from hfmem.advice.inference import advise  # only for runs with an accelerator

    found = machines(options)
    there = [machine for machine in found if machine.there]
    scenario = resolve(options, model, there[0] if there else None)
    estimate = estimate_memory(model, scenario)
    others = tuple(machine.note for machine in there[1:] if machine.note)
    missing = tuple(f"--gpu {each.asked}: {each.accelerator.source}." for each in found if not each.there)
    estimate = replace(estimate, notes=(*estimate.notes, *others, *missing))
    if brief:
        if limits:
            return Report(model=model, scenario=scenario, estimate=estimate, fits=fit_all(model, options, found))
        quick = fit_all(model, options, found, limits=False)
        whole = iter(fit_all(model, options, [fit.machine for fit in quick if fit.fits]))
        fits = tuple(next(whole) if fit.fits else fit for fit in quick)
        return Report(model=model, scenario=scenario, estimate=estimate, fits=fits)
    fits = fit_all(model, options, found)
    first = next((fit for fit in fits if fit.machine.there), None)
    if first is not None:
        estimate = _started(estimate, first)
    return Report(
        model=model,
        scenario=scenario,
        estimate=estimate,
        fits=fits,
        advice=advise(model, options, first) if first else (),
        savings=_savings(model, options, scenario, estimate, there[0] if there else None),
        plans=_plans(model, options, estimate, there[0] if there else None),
    )


def _started(estimate: Estimate, fit: Fit) -> Estimate:
    """The estimate with the launch line of what fits, where not all of the model does."""
    serving, offload = estimate.serving, fit.offload
    if serving is None or serving.command is None or fit.fits is not False:
        return estimate
    if offload is None or offload.whole or not offload.held:
        why = f"it does not fit on {fit.gpu.name}"
        return replace(estimate, serving=replace(serving, command=None, lineless=why))
    return replace(estimate, serving=replace(serving, command=offload.command))


def _savings(
    model: Model, options: Options, scenario: Scenario, estimate: Estimate, machine: Machine | None = None
) -> tuple[Saving, ...]:
    """Options that reduce the memory of training."""
    if estimate.training is None:
        return ()
    from hfmem.advice.training import savings  # only for training
    from hfmem.estimator.recipe.values import TrainingScenario

    if not isinstance(scenario, TrainingScenario):
        return ()
    return savings(model, scenario, estimate, machine, options.dp)


def _plans(model: Model, options: Options, estimate: Estimate, machine: Machine | None) -> tuple[Plan, ...]:
    """How far training goes on an accelerator."""
    if estimate.training is None or estimate.is_lower_bound or machine is None:
        return ()
    from hfmem.advice.solve import plans  # only for training

    try:
        return plans(model, options, machine)
    except InvalidScenarioError:
        return ()


_DEEPEST = 1000  # layers; a class with more is not built to count its parameters, as no model has as many


def completed(model: Model) -> Model:
    """The model with its parameters counted on the class, if there is only a config, no reader describes the weights,
    and PyTorch is installed (the `[probe]` extra). It takes seconds, so it is not done in other cases. Of a repository
    of GGUF files that were not read, the model that follows from the one they were made of."""
    if model.checkpoint.quantised_of and model.conversion is None:
        from hfmem.mapper.gguf.conversion.models import converted

        return converted(model)
    config = model.checkpoint.config
    if config is None or model.parameters is not None or model.checkpoint.gated or model.offered or model.unloadable:
        return model
    if (model.architecture.depth or 0) > _DEEPEST or find_spec("torch") is None:
        return model
    with quiet():
        from hfmem.probe.parameters import table

    try:
        parameters = table(config, model.architecture)
    except Exception as error:  # a class may reject a config with any exception
        note = f"transformers cannot build the class to count its weights ({type(error).__name__})."
        return replace(model, notes=(*model.notes, note))
    source = "the class of transformers, built on PyTorch's meta device"
    return replace(model, parameters=parameters, certainty="derived", source=source)


def report_all(found: Iterable[Fetched], options: Options, *, brief: bool = False) -> Iterator[Report | HfmemError]:
    """The report on each fetched checkpoint. Errors are passed on, and do not affect the other models. `brief` is that
    of `report_on`."""
    for ref, result in found:
        if isinstance(result, HfmemError):
            yield result
        else:
            yield _attempted(ref, replace(result, ref=as_read(ref, result.ref)), options, brief=brief)


def report_each(models: Iterable[Model | Bundle], options: Options) -> Iterator[Report | HfmemError]:
    """The report on each interpreted model, or bundle of models that run as one."""
    for model in models:
        first = model.first if isinstance(model, Bundle) else model
        yield _attempted(first.checkpoint.ref, model, options)


def _attempted(
    ref: ModelRef, given: Checkpoint | Model | Bundle, options: Options, *, brief: bool = False
) -> Report | HfmemError:
    try:
        with HfmemError.concerning(ref.model_id):
            if isinstance(given, Bundle):
                return report_on_bundle(given, options)
            model = given if isinstance(given, Model) else completed(understood(given))
            return report_on(model, options, brief=brief)
    except HfmemError as error:
        error.asked = ref.named
        return error
    except Exception as error:
        return unforeseen(ref, error)
