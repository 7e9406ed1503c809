"""Which engine runs a model where none is asked for, and what an engine's own sizes say of batch and length."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from hfmem.engines.protocol import Sizes
from hfmem.engines.table import USUAL, Runtime, engine, engines
from hfmem.mapper.holdings import format_name
from hfmem.mapper.pipelines.values import PIPELINES
from hfmem.options.rules import mode_of
from hfmem.scenario.options import Options

if TYPE_CHECKING:
    from hfmem.mapper.interpret import Model

__all__ = ["for_model"]


def for_model(options: Options, model: Model) -> Options:
    """The options with the engine that runs the model, and batch and length as that engine's own options have them."""
    if options.runtime is None:
        options = replace(options, runtime=_usual(options, model))
    runs = engine(options.runtime or USUAL)
    if not isinstance(runs, Sizes):
        return options
    batch, seq = runs.sizes(options)
    return options if (batch, seq) == (options.batch, options.seq) else replace(options, batch=batch, seq=seq)


def _usual(options: Options, model: Model) -> Runtime:
    """The engine whose own files the model's are, if it does what is asked."""
    form = format_name(model.checkpoint, model.offered if model.parameters is None else "")
    form = form if model.pipeline is None else PIPELINES
    quantiser = model.quantisation.method if model.quantisation is not None else ""
    for row in engines():
        own = form in row.formats or quantiser in row.quantisers
        if own and mode_of(options) in row.modes and options.method in row.methods:
            return cast("Runtime", row.name)
    return USUAL
