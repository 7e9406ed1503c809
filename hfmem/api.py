"""The public functions: inspect a model, estimate its memory, compare several. Keywords are the declared options."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import wraps
from inspect import Signature, signature
from os import PathLike
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from hfmem.advice.values import Fit, Variants
from hfmem.against.values import Against
from hfmem.answers import accompanied, completed, report_all, report_each, report_on, report_on_bundle
from hfmem.errors import HfmemError
from hfmem.fetcher.concurrent import fetch_all
from hfmem.fetcher.identity import reference, with_file, with_quantisation
from hfmem.fetcher.sources import fetch
from hfmem.fetcher.values import ModelRef
from hfmem.forms import forms_of
from hfmem.mapper.adapted import understood
from hfmem.mapper.bundle import Bundle
from hfmem.mapper.interpret import Model
from hfmem.options.access import Access, Concurrency, Revision
from hfmem.options.option import declared, value_of
from hfmem.options.output import FormsOptions
from hfmem.options.reading import near
from hfmem.options.rules import wrong
from hfmem.options.run import is_profile
from hfmem.refusals.options import ModelNameError
from hfmem.report.comparisons import Comparison
from hfmem.report.values import Fits, Report
from hfmem.scenario.asked import Asked, extended
from hfmem.scenario.check import check as check_options
from hfmem.scenario.options import Options, options_type

__all__ = [
    "called_with",
    "check",
    "compare",
    "estimate",
    "inspect",
    "options_of",
    "report_all",
    "report_on",
    "report_on_bundle",
    "variants",
]


Fit.shown = lambda fit: Fits((fit,))._repr_html_()

P = ParamSpec("P")
_Call = TypeVar("_Call")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Inspect(Revision, Access):
    """The arguments of `inspect`."""

    model: str = field(kw_only=False)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Estimate(Asked, Revision, Access):
    """The arguments of `estimate`."""

    model: str | Model | Bundle = field(kw_only=False)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Compare(Asked, Concurrency, Revision, Access):
    """The arguments of `compare`."""

    models: str | Model | Bundle | Iterable[str | Model | Bundle] = field(kw_only=False)


def _keywords(
    call: Callable[P, _Call],
) -> Callable[[Callable[[_Call], _Answer]], Callable[P, _Answer]]:
    """Turn a function of one dataclass into a function of its fields as keywords. Type checkers see each option with
    its type, without a second list; options registered later are accepted at run time."""
    if not isinstance(call, type):
        raise TypeError(call)
    fields_of: type = call

    def decorate(function: Callable[[_Call], _Answer]) -> Callable[P, _Answer]:
        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> _Answer:
            return function(called_with(function.__name__, extended(fields_of), args, kwargs))

        del called.__wrapped__  # otherwise inspect.signature would show the wrapped function
        shown = _signature(fields_of, function)
        called.__dict__["__signature__"] = shown  # which inspect.signature reads
        called.__annotations__ = {each.name: each.annotation for each in shown.parameters.values()} | {
            "return": shown.return_annotation
        }
        return called

    return decorate


def called_with(function: str, kind: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The dataclass for a call's arguments.

    Raises:
        TypeError: too few or too many values, or a keyword that is no option.
        InvalidScenarioError: a value of the wrong type, out of range or unknown.
    """
    known = _understood(function, kind, kwargs)
    try:
        signature(kind).bind(*args, **known)
    except TypeError as error:
        told = f"{function}(): {error}; it takes what is to be looked at, and options by their names"
        raise TypeError(told) from None
    return kind(*args, **known)


def _understood(function: str, call: type, given: Mapping[str, object]) -> dict[str, Any]:
    """The values of keywords, parsed.

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
        if name in options and (error := wrong(options[name], found[name])):
            raise error
    return found


def _signature(call: type, function: Callable[..., object]) -> Signature:
    """The signature for `help()`, with all keywords and their types."""
    options = {option.name: option.annotation for option in declared(call)}
    parameters = signature(call).parameters.values()
    return Signature(
        [each.replace(annotation=options.get(each.name, each.annotation)) for each in parameters],
        return_annotation=function.__annotations__["return"],
    )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Variants(Asked, FormsOptions, Revision, Access):
    """The arguments of `variants`."""

    model: str | Model = field(kw_only=False)


@_keywords(_Inspect)
def inspect(asked: _Inspect) -> Model:
    """What a model is: its checkpoint, architecture and parameters.

    Args:
        model: a Hub id or the address of its page, a local folder, or a .safetensors or .gguf file.
        revision: branch, tag, commit or `refs/pr/N`.
        token: a Hub token; None uses the stored login or `HF_TOKEN`.
        offline: do not use the network.
        use_cache: read and write the cache of earlier responses.

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
    """The memory that a model needs in a scenario.

    Args:
        model: a Hub id or path, a result of `inspect` (then nothing is fetched), or a `Bundle` of such models that run
            as one.
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
    options = options_of(asked)
    check_options(options)
    options = accompanied(options, asked)
    if isinstance(asked.model, Bundle):
        return report_on_bundle(asked.model, options)
    if isinstance(asked.model, Model):
        return report_on(asked.model, options)
    return report_on(_inspected(asked.model, asked.revision, asked, asked.quant), options)


def check(report: Report, log: str | Path) -> Against:
    """A report held against what a real run printed.

    Args:
        report: a result of `estimate`.
        log: a file: the log of vLLM, SGLang or llama.cpp from its start, `torch.cuda.memory_stats()` as JSON, a memory
            snapshot of PyTorch, metrics of transformers' Trainer, or the output of nvidia-smi.

    Returns:
        One row per reading, with the estimate of it in bytes (tokens and requests where the log counts those); `off`
        names the term that is off, None where all agree.

    Raises:
        HfmemError: the file cannot be read, or has no line that is known.
    """
    from hfmem.against.compare import compared
    from hfmem.against.read import read_log

    model = report.model.checkpoint.ref.model_id
    return compared(report.estimate, report.scenario, read_log(Path(log)), model)


@_keywords(_Compare)
def compare(asked: _Compare) -> Comparison:
    """Several models in one scenario, fetched concurrently, in the given order. For a model that fails, its error is
    returned. The result is a tuple with `to_pandas()`, `to_polars()` and `to_arrow()`: one flat row a model.

    Args:
        models: Hub ids or paths, results of `inspect` (then nothing is fetched), or a `Bundle` of such models; a single
            one is also accepted.
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
    options = options_of(asked)
    check_options(options)
    options = accompanied(options, asked)
    meant = [_meant(model, asked) for model in _several(asked.models)]
    refs = [each for each in meant if isinstance(each, ModelRef)]
    fetched = iter(list(report_all(fetch_all(refs, asked, asked.jobs), options)))
    known = report_each([each for each in meant if isinstance(each, Model | Bundle)], options)
    return Comparison(
        each if isinstance(each, HfmemError) else next(fetched if isinstance(each, ModelRef) else known)
        for each in meant
    )


@_keywords(_Variants)
def variants(asked: _Variants) -> Variants:
    """The forms of a base model that the Hub knows: quantised repositories, each of their GGUF and ONNX files,
    adapters, finetunes and merges. Offline, and where the Hub cannot be reached, those in the bundled catalog.

    Args:
        model: a Hub id, or a result of `inspect`.
        most_variants: how many repositories are read at most.
        jobs: how many are read at once.
        revision, token, offline, use_cache, gpu, seq, dtype, …: as for `estimate`.

    Returns:
        `rows`, one a form, the model itself first: what it is (`model`, `file`, `form`, `relation`), bytes of its files
        (`nbytes`), bits per weight, its `estimate`, and whether it `fits` on each accelerator. `more` has the relations
        of which there are others, `source` and `reason` tell who was asked. A form that fails is a row with its reason
        (`unknown`).

    Raises:
        HfmemError: the model was not found or cannot be read, the Hub refuses to list its forms, or the options
            contradict each other.

    Example:
        >>> from hfmem import variants
        >>> found = variants("Qwen/Qwen3-8B", gpu=("12GB",), offline=True)
        >>> [(row.model, row.form, row.fits[0].fits) for row in found.rows][:2]
        [('Qwen/Qwen3-8B', 'bfloat16', False), ('Qwen/Qwen3-8B-FP8', 'FP8', True)]
    """
    options = options_of(asked)
    check_options(options)
    options = accompanied(options, asked)
    model = asked.model
    if not isinstance(model, Model):
        model = _inspected(model, asked.revision, asked, asked.quant)
    return forms_of(report_on(model, options), options, asked, asked)


def _several(models: object) -> Iterable[object]:
    """The models; a single model counts as a list of one.

    Raises:
        ModelNameError: it is neither a model nor several of them.
    """
    if isinstance(models, (str, PathLike, Model, Bundle)):
        return (models,)
    if isinstance(models, Iterable) and not isinstance(models, (bytes, bytearray)):
        return models
    raise ModelNameError(models, several=True)


def _meant(model: object, asked: _Compare) -> ModelRef | Model | Bundle | HfmemError:
    """The reference of a model to fetch, or an interpreted model as it is; an error for anything else."""
    if isinstance(model, (Model, Bundle)):
        return model
    try:
        with HfmemError.concerning(f"{model!r:.60}"):
            return with_file(with_quantisation(reference(_name(model), asked.revision), asked.quant), asked.file)
    except HfmemError as error:
        return error


def _inspected(model: str, revision: str, access: Access, word: str | None = None) -> Model:
    ref = with_file(with_quantisation(reference(_name(model), revision), word), access.file)
    with HfmemError.concerning(ref.model_id):
        return completed(understood(fetch(ref, access)))


def _name(model: object) -> str:
    """The name of a model: a string, or the path of a folder or file.

    Raises:
        ModelNameError: it is neither.
    """
    if isinstance(model, (str, PathLike)):
        return str(model)
    raise ModelNameError(model)


def options_of(asked: Any) -> Options:
    """The options of the scenario in a call."""
    kind = options_type()
    options = kind(**{option.name: getattr(asked, option.name) for option in declared(kind)})
    if not any(is_profile(name) for name in options.gpu if isinstance(name, str)):
        return options
    from hfmem.scenario.profile import with_profile  # which asks the Hub

    return with_profile(options, asked)
