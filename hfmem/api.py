"""The public functions: inspect a model, estimate its memory, compare several. Keywords are the declared options."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from importlib.util import find_spec
from inspect import Signature, signature
from os import PathLike
from typing import Any, ParamSpec, TypeVar

from hfmem.advice.values import Saving
from hfmem.engines.inference import estimate as estimate_memory
from hfmem.errors import HfmemError, InvalidScenarioError
from hfmem.estimator.values import Estimate, Scenario, Trace
from hfmem.fetcher.concurrent import Fetched, fetch_all, unforeseen
from hfmem.fetcher.identity import reference
from hfmem.fetcher.sources import fetch
from hfmem.hardware.values import Machine
from hfmem.mapper.bundle import Bundle
from hfmem.mapper.interpret import Model, interpret
from hfmem.options.access import Access, Concurrency, Revision
from hfmem.options.option import declared, value_of
from hfmem.options.reading import near
from hfmem.options.rules import wrong
from hfmem.report.values import Report
from hfmem.scenario.asked import Asked, extended
from hfmem.scenario.check import check
from hfmem.scenario.options import Options, options_type
from hfmem.scenario.resolve import resolve

__all__ = ["compare", "estimate", "inspect", "report_all", "report_on", "report_on_bundle"]


P = ParamSpec("P")
_Call = TypeVar("_Call")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Inspect(Revision, Access):
    """What `inspect` is asked."""

    model: str = field(kw_only=False)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Estimate(Asked, Revision, Access):
    """What `estimate` is asked."""

    model: str | Model | Bundle = field(kw_only=False)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Compare(Asked, Concurrency, Revision, Access):
    """What `compare` is asked."""

    models: str | Iterable[str] = field(kw_only=False)


def _keywords(
    call: Callable[P, _Call],
) -> Callable[[Callable[[_Call], _Answer]], Callable[P, _Answer]]:
    """A function of one value as a function of that value's fields: type checkers see each option with its type, and
    none is listed a second time. Options that were registered later are there when the program runs."""
    if not isinstance(call, type):
        raise TypeError(call)
    fields_of: type = call

    def decorate(function: Callable[[_Call], _Answer]) -> Callable[P, _Answer]:
        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> _Answer:
            kind = extended(fields_of)
            return function(kind(*args, **_understood(function.__name__, kind, kwargs)))

        del called.__wrapped__  # else its signature would be the one-value function's
        shown = _signature(fields_of, function)
        called.__signature__ = shown  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in shown.parameters.values()} | {
            "return": shown.return_annotation
        }
        return called

    return decorate


def _understood(function: str, call: type, given: Mapping[str, object]) -> dict[str, Any]:
    """The values that are meant by keywords.

    Raises:
        TypeError: a keyword that is no option.
        InvalidScenarioError: a value of the wrong type, out of range or unknown.
    """
    options = {option.name: option for option in declared(call)}
    known = {each.name for each in fields(call)}
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            meant = near(name, known)
            told = f" (did you mean '{meant[0]}'?)" if meant else ""
            raise TypeError(f"{function}() got an unexpected keyword argument '{name}'{told}")
        found[name] = value_of(options[name], value) if name in options else value
        if name in options and (sentence := wrong(options[name], found[name])):
            raise InvalidScenarioError("", sentence)
    return found


def _signature(call: type, function: Callable[..., object]) -> Signature:
    """The keywords as `help()` shows them, with their types."""
    options = {option.name: option.annotation for option in declared(call)}
    parameters = signature(call).parameters.values()
    return Signature(
        [each.replace(annotation=options.get(each.name, each.annotation)) for each in parameters],
        return_annotation=function.__annotations__["return"],
    )


@_keywords(_Inspect)
def inspect(asked: _Inspect) -> Model:
    """What a model is: its checkpoint, architecture and parameters.

    Args:
        model: a Hub id or the address of its page, a local folder, or a .safetensors or .gguf file.
        revision: branch, tag, commit or `refs/pr/N`.
        token: a Hub token; None uses the stored login or `HF_TOKEN`.
        offline: ask nothing of the network.
        use_cache: read and write the cache of earlier answers.

    Raises:
        HfmemError: the model was not found, or cannot be read.

    Example:
        >>> from hfmem import inspect
        >>> inspect("meta-llama/Llama-2-7b-hf", offline=True).parameters.total
        6738415616
    """
    return _inspected(asked.model, asked.revision, asked)


@_keywords(_Estimate)
def estimate(asked: _Estimate) -> Report:
    """What a model needs under a scenario.

    Args:
        model: a Hub id or path, or what `inspect` returned (nothing is fetched then), or a `Bundle` of such models
            that run as one.
        revision: branch, tag, commit or `refs/pr/N`.
        token, offline, use_cache: as for `inspect`.
        batch, seq, dtype, …: the options of the command line (`hfmem --help-all` explains each), with underscores.

    Raises:
        HfmemError: the model was not found or cannot be read, or the options contradict each other.

    Example:
        >>> from hfmem import estimate
        >>> report = estimate("meta-llama/Llama-2-7b-hf", batch=4, seq=4096, offline=True)
        >>> report.estimate.group("weights"), report.estimate.group("kv_cache")
        (13476831232, 8589934592)
    """
    options = _options(asked)
    check(options)
    if isinstance(asked.model, Bundle):
        return report_on_bundle(asked.model, options)
    if isinstance(asked.model, Model):
        return report_on(asked.model, options)
    return report_on(_inspected(asked.model, asked.revision, asked), options)


@_keywords(_Compare)
def compare(asked: _Compare) -> tuple[Report | HfmemError, ...]:
    """Several models under one scenario, fetched concurrently, in the order given; a failure is its error.

    Args:
        models: Hub ids or paths; one string is one model.
        jobs: how many are fetched at once.
        revision, token, offline, use_cache, batch, seq, dtype, …: as for `estimate`.

    Raises:
        InvalidScenarioError: the options contradict each other.

    Example:
        >>> from hfmem import compare
        >>> ids = ["meta-llama/Llama-2-7b-hf", "openai-community/gpt2"]
        >>> [report.parameters.total for report in compare(ids, offline=True)]
        [6738415616, 124439808]
    """
    options = _options(asked)
    check(options)
    models = (asked.models,) if isinstance(asked.models, (str, PathLike)) else asked.models
    refs = [reference(_name(model), asked.revision) for model in models]
    return tuple(report_all(fetch_all(refs, asked, asked.jobs), options))


def _inspected(model: str, revision: str, access: Access) -> Model:
    return _complete(interpret(fetch(reference(_name(model), revision), access)))


def _name(model: object) -> str:
    """A model as it is called: a string, or the path of a folder or file.

    Raises:
        InvalidScenarioError: it is neither.
    """
    if isinstance(model, (str, PathLike)):
        return str(model)
    raise InvalidScenarioError("", f"a model is {model!r:.60}, expected a Hub id or a path")


def _options(asked: Asked) -> Options:
    """The scenario's part of a call."""
    kind = options_type()
    return kind(**{option.name: getattr(asked, option.name) for option in declared(kind)})


def report_on(model: Model, options: Options) -> Report:
    """The report of a model that is already understood.

    Raises:
        HfmemError: options contradict each other, or its class cannot be traced as they ask.
    """
    check(options)
    report = _report(model, options)
    return replace(report, trace=_traced(model, report.scenario)) if options.trace else report


def report_on_bundle(bundle: Bundle, options: Options) -> Report:
    """The report of models that run as one: each under the options, at the length that they choose for the first.

    Raises:
        HfmemError: options contradict each other, or ask what is not known of several models together.
    """
    if len(bundle.models) == 1:
        return report_on(bundle.first, options)
    if options.train or options.gpu or options.trace:
        raise InvalidScenarioError("", "--train, --gpu and --trace are for one model, not for several that run as one")
    from hfmem.estimator.bundle import combined  # for several models that run as one only

    scenario = resolve(options, bundle.first)
    estimates = {bundle.roles[0]: estimate_memory(bundle.first, scenario)}
    for role, model in list(bundle.parts)[1:]:
        own = resolve(replace(options, seq=scenario.seq), model)
        alone = estimate_memory(model, own)
        estimates[role] = replace(alone, notes=(*own.chosen, *alone.notes))
    return Report(model=bundle.first, scenario=scenario, estimate=combined(estimates), bundle=bundle)


def _traced(model: Model, scenario: Scenario) -> Trace:
    """The peak of the step, measured on the class."""
    if scenario.parallel.gpus > 1:
        raise InvalidScenarioError(model.checkpoint.ref.model_id, "--trace runs on one GPU: name one only")
    from hfmem.probe.trace import step_of, trace  # PyTorch takes seconds to load

    return trace(model, step_of(model, scenario))


def _report(model: Model, options: Options) -> Report:
    if not options.gpu:
        scenario = resolve(options, model)
        estimate = estimate_memory(model, scenario)
        return Report(model=model, scenario=scenario, estimate=estimate, savings=_savings(model, scenario, estimate))
    from hfmem.advice.fit import fit_all, machines
    from hfmem.advice.inference import advise  # for runs that name an accelerator only

    found = machines(options)
    scenario = resolve(options, model, found[0] if found else None)
    estimate = estimate_memory(model, scenario)
    others = tuple(machine.note for machine in found[1:] if machine.note)
    estimate = replace(estimate, notes=(*estimate.notes, *others))
    if not found:
        note = "--gpu auto: no accelerator was found in this machine."
        estimate = replace(estimate, notes=(*estimate.notes, note))
    fits = fit_all(model, options, found)
    advice = advise(model, options, fits[0]) if fits else ()
    return Report(
        model=model,
        scenario=scenario,
        estimate=estimate,
        fits=fits,
        advice=advice,
        savings=_savings(model, scenario, estimate, found[0] if found else None),
    )


def _savings(
    model: Model, scenario: Scenario, estimate: Estimate, machine: Machine | None = None
) -> tuple[Saving, ...]:
    """Ways to need less in training."""
    if estimate.training is None:
        return ()
    from hfmem.advice.training import savings  # for runs that train only
    from hfmem.estimator.recipe.values import TrainingScenario

    return savings(model, scenario, estimate.total, machine) if isinstance(scenario, TrainingScenario) else ()


_DEEPEST = 1000  # layers that are built to be counted; no model has as many


def _complete(model: Model) -> Model:
    """The model with its parameters counted on the class itself, where only the configuration is there, no reader knows
    the weights, and PyTorch is installed (the `[probe]` extra). That takes seconds, so nothing else is asked of it."""
    config = model.checkpoint.config
    if config is None or model.parameters is not None or model.checkpoint.gated:
        return model
    if (model.architecture.depth or 0) > _DEEPEST or find_spec("torch") is None:
        return model
    from hfmem.probe.parameters import table

    try:
        parameters = table(config, model.architecture)
    except Exception as error:  # the class refuses a configuration in as many ways as there are classes
        note = f"transformers cannot build the class to count its weights ({type(error).__name__})."
        return replace(model, notes=(*model.notes, note))
    source = "the class of transformers, built on PyTorch's meta device"
    return replace(model, parameters=parameters, certainty="derived", source=source)


def report_all(found: Iterable[Fetched], options: Options) -> Iterator[Report | HfmemError]:
    """The report of each fetched checkpoint; errors pass through, and one model's trouble costs the others nothing."""
    for ref, result in found:
        if isinstance(result, HfmemError):
            yield result
            continue
        try:
            yield report_on(_complete(interpret(result)), options)
        except HfmemError as error:
            error.model = error.model or ref.model_id
            yield error
        except Exception as error:
            yield unforeseen(ref, error)
