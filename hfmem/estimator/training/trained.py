"""The trained parameters as pieces: shape, dtype widths, and place in the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from hfmem.dtypes import find_dtype
from hfmem.estimator.recipe.optimizers import Kept
from hfmem.estimator.recipe.values import Lora, Training
from hfmem.estimator.split.share import Place, place_of
from hfmem.estimator.training.split import rules_of
from hfmem.estimator.training.virtual import adapted, module_of, virtual_shapes
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import Adapter, saved_groups
from hfmem.mapper.values import Along, Component, Cut, TensorGroup

__all__ = ["Piece", "trained_pieces"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Trained tensors of the same shape.

    Attributes:
        component: the part of the model.
        kept: one of the tensors, as the optimizer sees it.
        count: the number of tensors.
        gradient: bytes per element of the gradient.
        master: bytes per element of the master weights; 0 for none.
        adapter: whether it belongs to an adapter, in addition to the base model.
        place: before, inside or after the layers.
        cut, along: how it is split over tensor-parallel ranks; adapters are `repeated`, i.e. replicated.
    """

    component: Component
    kept: Kept
    count: int
    gradient: int
    master: int
    adapter: bool = False
    place: Place
    cut: Cut | Literal["repeated"]
    along: Along = "whole"

    @property
    def elements(self) -> int:
        """Elements of all tensors."""
        return self.kept.elements * self.count

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one tensor."""
        return self.kept.shape

    @property
    def linear(self) -> bool:
        """Whether it is the weight of a linear layer."""
        return self.kept.matrix


def trained_pieces(model: Model, training: Training) -> tuple[Piece, ...]:
    """All tensors that get a gradient."""
    if model.parameters is None:
        return ()
    if training.lora is None:
        groups = [
            group
            for group in model.parameters.groups
            if group.loaded and group.parameters and group.component not in training.frozen
        ]
        return tuple(_whole(group, training) for group in groups)
    lora = training.lora
    pieces = [piece for adapter in adapted(model, lora) for piece in _pair(model, adapter, lora, training)]
    virtual = virtual_shapes(model, lora)
    pieces += [replace(_adapter("other", shape, count, training), place="before") for shape, count in virtual]
    saved = saved_groups(model.parameters, lora.saved_modules)
    return (*pieces, *(_copy(group, training) for group in saved))


def _whole(group: TensorGroup, training: Training) -> Piece:
    precision = training.precision
    state = find_dtype(precision.state)
    return Piece(
        component=group.component,
        kept=Kept(
            shape=group.shape,
            width=state.nbytes(1) if state else 4,  # float32 states unless the precision says otherwise
            embedding=group.component == "embedding",
            matrix=group.linear,
            rank=training.optimizer_rank,
        ),
        count=group.count,
        gradient=precision.gradient,
        master=precision.master,
        place=place_of(group.component, rules_of(training.stack)),
        cut=group.cut,
        along=group.along,
    )


def _pair(model: Model, adapter: Adapter, lora: Lora, training: Training) -> list[Piece]:
    """The two matrices of an adapter, and DoRA's magnitude vector; or what another method trains of a module."""
    if lora.method is not None:
        own = lora.method.trained(module_of(model, adapter, lora))
        return [_adapter(adapter.group.component, shape, adapter.count, training) for shape in own]
    rank = adapter.ranks * lora.rank  # a fused parameter, such as gate and up, has one adapter of a multiple rank
    shapes: list[tuple[int, ...]] = [(rank, adapter.inputs), (adapter.outputs, rank)]
    if lora.dora:
        shapes.append((adapter.outputs,))
    return [_adapter(adapter.group.component, shape, adapter.count, training) for shape in shapes]


def _copy(group: TensorGroup, training: Training) -> Piece:
    """A module in `modules_to_save`: PEFT trains a copy and keeps the original too."""
    return _adapter(group.component, group.shape, group.count, training)


def _adapter(component: Component, shape: tuple[int, ...], count: int, training: Training) -> Piece:
    width = training.adapter_bytes
    return Piece(
        component=component,
        kept=Kept(shape=shape, width=width, matrix=False),  # FP8 copies and autocast casts are of base matrices only
        count=count,
        gradient=width,
        master=0,
        adapter=True,
        place=place_of(component, rules_of(training.stack)),
        cut="repeated",
    )
