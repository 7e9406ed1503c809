"""The public functions: inspect a model, estimate its memory, compare several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Literal, TypedDict, Unpack

from hfmem.engines.inference import estimate as estimate_memory
from hfmem.errors import HfmemError, InvalidScenarioError
from hfmem.estimator.bundle import combined
from hfmem.estimator.values import Attention, Method, Scenario, Trace
from hfmem.fetcher.concurrent import Fetched, fetch_all, unforeseen
from hfmem.fetcher.sources import fetch
from hfmem.fetcher.values import Access, ModelRef
from hfmem.mapper.bundle import Bundle
from hfmem.mapper.interpret import Model, interpret
from hfmem.report.values import Report
from hfmem.scenario.options import Options, Runtime, check
from hfmem.scenario.resolve import resolve

__all__ = ["compare", "estimate", "inspect", "report_all", "report_on", "report_on_bundle"]


class _Access(TypedDict, total=False):
    token: str | None
    offline: bool
    use_cache: bool


class _Asked(_Access, total=False):
    batch: int
    seq: int | None
    source_seq: int | None
    dtype: str | None
    kv_dtype: str | None
    runtime: Runtime
    attention: Attention
    method: Method
    train: Literal["full", "lora", "qlora"] | None
    optimizer: str | None
    gpu: tuple[str, ...]
    precision: str | None
    stack: str | None
    gradient_checkpointing: bool
    selective_checkpointing: bool
    gradient_accumulation: int | None
    fused_loss: bool
    freeze: tuple[str, ...]
    optimizer_rank: int | None
    lora_rank: int | None
    lora_targets: tuple[str, ...]
    lora_dropout: float | None
    lora_dtype: str | None
    dora: bool
    modules_to_save: tuple[str, ...]
    double_quant: bool
    zero: int | None
    fsdp: bool
    shard: int | None
    offload: Literal["none", "optimizer", "parameters"]
    gpus: int | None
    tp: int | None
    pp: int | None
    dp: int | None
    ep: int | None
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    gpu_memory_utilization: float | None
    block_size: int | None
    enforce_eager: bool
    vllm_version: str | None
    cp: int | None
    sequence_parallel: bool
    virtual_stages: int | None
    trace: bool


def inspect(model: str, *, revision: str = "main", **access: Unpack[_Access]) -> Model:
    """What a model is: its checkpoint, architecture and parameters.

    Args:
        model: a Hub id, a local folder, or a .safetensors file.
        revision: branch, tag, commit or `refs/pr/N`.
        access: `token`, `offline`, `use_cache`, as `hfmem.fetcher.Access` explains them.

    Raises:
        HfmemError: the model was not found, or cannot be read.

    Example:
        >>> from hfmem import inspect
        >>> inspect("meta-llama/Llama-2-7b-hf", offline=True).parameters.total
        6738415616
    """
    return _complete(interpret(fetch(ModelRef(model_id=model, revision=revision), Access(**access))))


def estimate(model: str | Model | Bundle, *, revision: str = "main", **asked: Unpack[_Asked]) -> Report:
    """What a model needs under a scenario.

    Args:
        model: a Hub id or path, or what `inspect` returned (nothing is fetched then), or a `Bundle` of such models
            that run as one.
        revision: branch, tag, commit or `refs/pr/N`.
        asked: the fields of `hfmem.Options` (`batch`, `seq`, `dtype`, …), and those of `inspect` for access.

    Raises:
        HfmemError: the model was not found or cannot be read, or the options contradict each other.

    Example:
        >>> from hfmem import estimate
        >>> report = estimate("meta-llama/Llama-2-7b-hf", batch=4, seq=4096, offline=True)
        >>> report.estimate.group("weights"), report.estimate.group("kv_cache")
        (13476831232, 8589934592)
    """
    access, options = _split(asked)
    check(options)
    if isinstance(model, Bundle):
        return report_on_bundle(model, options)
    if isinstance(model, Model):
        return report_on(model, options)
    return report_on(_complete(interpret(fetch(ModelRef(model_id=model, revision=revision), access))), options)


def compare(models: Iterable[str], *, jobs: int = 8, **asked: Unpack[_Asked]) -> tuple[Report | HfmemError, ...]:
    """Several models under one scenario, fetched concurrently, in the order given; a failure is its error.

    Args:
        models: Hub ids or paths.
        jobs: how many are fetched at once.
        asked: as for `estimate`.

    Raises:
        InvalidScenarioError: the options contradict each other.

    Example:
        >>> from hfmem import compare
        >>> ids = ["meta-llama/Llama-2-7b-hf", "openai-community/gpt2"]
        >>> [report.parameters.total for report in compare(ids, offline=True)]
        [6738415616, 124439808]
    """
    access, options = _split(asked)
    check(options)
    refs = [ModelRef(model_id=model) for model in models]
    return tuple(report_all(fetch_all(refs, access, jobs), options))


def report_on(model: Model, options: Options) -> Report:
    """The report of a model that is already understood.

    Raises:
        HfmemError: options contradict each other, or its class cannot be traced as they ask.
    """
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
        return Report(model=model, scenario=scenario, estimate=estimate_memory(model, scenario))
    from hfmem.advice.fit import fit_all, machines
    from hfmem.advice.inference import advise  # for runs that name an accelerator only

    found = machines(options)
    scenario = resolve(options, model, found[0] if found else None)
    estimate = estimate_memory(model, scenario)
    if not found:
        note = "--gpu auto: no accelerator was found in this machine."
        estimate = replace(estimate, notes=(*estimate.notes, note))
    fits = fit_all(model, options, found)
    advice = advise(model, options, fits[0]) if fits else ()
    return Report(model=model, scenario=scenario, estimate=estimate, fits=fits, advice=advice)


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


def _split(asked: _Asked) -> tuple[Access, Options]:
    """The keywords of access, and those of the scenario.

    Raises:
        TypeError: a keyword that is neither.
    """
    names = _Access.__annotations__
    access = {name: value for name, value in asked.items() if name in names}
    options = {name: value for name, value in asked.items() if name not in names}
    return Access(**access), Options(**options)  # type: ignore[arg-type] # the TypedDicts have checked them


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
