"""Training options that are invalid by the tables of training: unknown names, and unsupported combinations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.recipe.optimizers import OPTIMIZERS, find_optimizer
from hfmem.estimator.recipe.precisions import PRECISIONS, TRAINER, find_precision
from hfmem.estimator.recipe.stacks import STACKS, find_stack
from hfmem.estimator.recipe.trainers import find_trainer
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.values import COMPONENTS
from hfmem.options.option import split
from hfmem.options.words import trained_as
from hfmem.refusals.options import OnlyForError, UnknownWordError
from hfmem.refusals.splits import IndivisibleError
from hfmem.refusals.training import AdapterBaseError, DtypeConflictError, TrainerError, UntrainableDtypeError
from hfmem.scenario.options import Options
from hfmem.scenario.spread import plans

__all__ = ["refusals"]

_TRAINABLE: Final = ("bfloat16", "float16", "float32")


def refusals(options: Options) -> Iterator[InvalidScenarioError]:
    """An error for each invalid option."""
    yield from _names(options)
    yield from _optimizer_rank(options)
    yield from _replicas(options)
    yield from _base(options)
    yield from _trainer(options)


def _names(options: Options) -> Iterator[InvalidScenarioError]:
    precision = None if options.precision in TRAINER else options.precision
    for option, value, find, rows in (
        ("--optimizer", options.optimizer, find_optimizer, OPTIMIZERS),
        ("--precision", precision, find_precision, PRECISIONS),
        ("--stack", options.stack, find_stack, STACKS),
    ):
        if value is not None and find(value) is None:
            yield UnknownWordError(option, value, (row.name for row in rows))
    parts = split(options.freeze) if isinstance(options.freeze, str) else options.freeze
    yield from (UnknownWordError("--freeze", part, COMPONENTS) for part in parts if part.strip() not in COMPONENTS)


def _optimizer_rank(options: Options) -> Iterator[InvalidScenarioError]:
    optimizer = find_optimizer(options.optimizer or "")
    if options.optimizer_rank is not None and not (optimizer and optimizer.rank):
        yield OnlyForError("--optimizer-rank", "--optimizer", (row.name for row in OPTIMIZERS if row.rank))


def _replicas(options: Options) -> Iterator[InvalidScenarioError]:
    for spread in plans(options):
        replicas = spread.dp * spread.cp
        if options.shard is not None and replicas % options.shard:
            yield IndivisibleError("shard", options.shard, replicas, "replicas")


def _trainer(options: Options) -> Iterator[InvalidScenarioError]:
    """What a trainer of TRL refuses."""
    trainer = find_trainer(options.train)
    if trainer is None:
        return
    if options.stack is not None and find_stack(options.stack) is not STACKS[0]:
        yield TrainerError("stack", options.stack, trainer.title)
    if options.loss_type is not None and options.loss_type not in trainer.losses:
        yield UnknownWordError("--loss-type", options.loss_type, trainer.losses, under=trainer.name)
    if options.seq is not None and (options.max_completion_length or 0) > options.seq:
        yield TrainerError("completion", options.max_completion_length or 0, trainer.title, most=options.seq)


def _base(options: Options) -> Iterator[InvalidScenarioError]:
    """Base weights that adapters, or full training, do not support."""
    quantiser = find_quantiser(options.dtype or "")
    floating = find_dtype(options.dtype or "")
    precision = None if options.precision in TRAINER else find_precision(options.precision or "")
    if precision is not None and quantiser is None and floating is not None and floating.name != precision.weights:
        yield DtypeConflictError(options.dtype, precision.name, precision.weights)
    if quantiser is None:
        if floating is not None and floating.name not in _TRAINABLE:
            yield UntrainableDtypeError(options.dtype, _TRAINABLE)
    elif trained_as(options) == "full":
        yield UntrainableDtypeError(options.dtype)
    elif trained_as(options) == "qlora" and quantiser.name != "nf4":
        yield AdapterBaseError(quantiser.name, trainer=find_trainer(options.train) is not None)
