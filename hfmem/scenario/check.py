"""Rejects options that make no sense for any model, before anything is fetched.

This separates wrong usage (exit code 2) from the failure of a model (1). Errors that depend only on the options and the
machine are raised here, once. Errors that also depend on a model, such as a length beyond its maximum or a split of its
heads, are raised for that model when its scenario is resolved, and the other models are still reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from hfmem.dtypes import KV_DTYPES, PACKED_KV, RUN_DTYPES, canonical
from hfmem.engines.protocol import Packs
from hfmem.engines.table import USUAL, engine, find_engine
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.weights.quantisers import find_quantiser, quantiser_names
from hfmem.mapper.values import Architecture, Experts
from hfmem.options import rules
from hfmem.options.option import declared
from hfmem.refusals.options import IncompatibleOptionsError, NoTrainingError, UnknownWordError
from hfmem.scenario.asked import owners
from hfmem.scenario.options import Options
from hfmem.scenario.spread import plans

__all__ = ["check", "check_again", "without_effect"]


def check(options: Options) -> None:
    """Reject options that are wrong for any model.

    Raises:
        InvalidScenarioError: a value of the wrong type, out of range or unknown; options that have no effect in
            combination with the others, or that contradict each other.
    """
    for error in _refusals(options):
        raise error


def check_again(options: Options, name: str) -> None:
    """Refuse an option where the engine is known that a model has chosen, and does not do it.

    Raises:
        InvalidScenarioError: what it needs is not there.
    """
    again = [option for option in declared(type(options)) if option.name == name]
    for error in rules.refusals(again, options, owners()):
        raise error


def without_effect(options: Options, architecture: Architecture) -> tuple[str, ...]:
    """A sentence for each option that has no effect on a model, but is harmless."""
    told = rules.idle(declared(type(options)), options)
    layers = architecture.layers or ()
    if (options.ep or 1) > 1 and layers and not any(isinstance(layer.ffn, Experts) for layer in layers):
        told += ("--ep has no effect: the model has no experts",)
    if options.kv_dtype is not None and layers and not any(layer.elements(1, source=1) for layer in layers):
        told += ("--kv-dtype has no effect: the model keeps no cache",)
    return (*told, *_pieces(options, architecture))


def _pieces(options: Options, architecture: Architecture) -> Iterator[str]:
    """Prompt options that the engine or the model does not support."""
    runs = engine(options.runtime or USUAL)
    steps = f"{runs.title} plans with its own step size, whatever the prompt length"
    if runs.profiled and options.prompt is not None:
        yield f"--prompt has no effect: {steps}"
    if runs.profiled and options.prefill_chunk is not None:
        yield f"--prefill-chunk has no effect: {steps}"
    elif options.prefill_chunk is not None and architecture.source is not None:
        yield "--prefill-chunk has no effect: the encoder processes its input in one pass"


def _refusals(options: Options) -> Iterator[InvalidScenarioError]:
    """All errors, those of single values first."""
    table = declared(type(options))
    given = ((option, getattr(options, option.name)) for option in table)
    # by identity, as True == 1
    yield from filter(None, (rules.wrong(option, value) for option, value in given if value is not option.default))
    asked = [option for option in table if option.asked(options)]
    yield from _engine(options)
    yield from rules.refusals(asked, options, owners())
    yield from _textbook(options) if options.method == "textbook" else _exact(options)
    plans(options)


def _engine(options: Options) -> Iterator[InvalidScenarioError]:
    """Modes and methods that the engine does not support."""
    row = None if options.runtime is None else find_engine(options.runtime)
    if row is not None and rules.mode_of(options) not in row.modes:
        if row.trainer:
            yield NoTrainingError(row.name, row.trainer)
        else:
            yield IncompatibleOptionsError(("--runtime", row.name), ("--train",))
    if row is not None and options.method not in row.methods:
        yield IncompatibleOptionsError(("--runtime", row.name), ("--method", options.method))


def _exact(options: Options) -> Iterator[InvalidScenarioError]:
    dtype = options.dtype
    yield from _packed(options.kv_dtype or "", options)
    if dtype is not None and find_quantiser(dtype) is None and canonical(dtype) not in RUN_DTYPES:
        yield UnknownWordError("--dtype", dtype, (*RUN_DTYPES, *quantiser_names()))
    if options.train is not None:
        from hfmem.scenario.training_check import refusals  # its tables are for training only

        yield from refusals(options)


def _packed(cache: str, options: Options) -> Iterator[InvalidScenarioError]:
    """A packed format of the KV cache that the engine does not have."""
    if cache not in PACKED_KV:
        return
    runs = engine(options.runtime or USUAL)
    if not isinstance(runs, Packs) or cache not in runs.cache_formats:
        yield UnknownWordError("--kv-dtype", cache, KV_DTYPES)


def _textbook(options: Options) -> Iterator[InvalidScenarioError]:
    from hfmem.estimator.textbook import TEXTBOOK_OPTIMIZERS, TEXTBOOK_PRECISIONS

    if options.dtype is not None and canonical(options.dtype) not in TEXTBOOK_PRECISIONS:
        yield UnknownWordError("--dtype", options.dtype, TEXTBOOK_PRECISIONS, under="textbook")
    if options.optimizer is not None and options.optimizer not in TEXTBOOK_OPTIMIZERS:
        yield UnknownWordError("--optimizer", options.optimizer, TEXTBOOK_OPTIMIZERS, under="textbook")
