"""Which engine runs a model where none is asked for, and what an engine's own sizes say of batch and length."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from hfmem.engines.protocol import Sizes
from hfmem.engines.table import USUAL, Runtime, engine, engines
from hfmem.fetcher.formats import gguf
from hfmem.mapper.holdings import PIPELINES, format_name
from hfmem.options.rules import mode_of
from hfmem.scenario.options import Options

if TYPE_CHECKING:
    from hfmem.mapper.interpret import Model

__all__ = ["as_made", "for_model"]


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
    return _of_quant(options, model) or USUAL


def _of_quant(options: Options, model: Model) -> Runtime | None:
    """The engine of GGUF files where one of their quantisations is named of a model that is none: `MODEL:Q4_K_M`."""
    word = model.checkpoint.ref.quant
    if not word or model.adapted is not None or mode_of(options) != "inference" or options.method != "exact":
        return None
    from hfmem.mapper.gguf.quantisation import named  # only where a quantisation is named

    row = next(row for row in engines() if row.only == gguf.FORMAT.name)
    return cast("Runtime", row.name) if named(word) is not None else None


def as_made(options: Options, model: Model) -> Options:
    """The options for a model that is still to be made: one that is quantised as they ask runs as it is stored."""
    quantised = model.made and model.quantisation is not None
    return replace(options, dtype=None) if quantised else options
