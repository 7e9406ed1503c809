"""The parameters of a training run as pieces: what is trained, in which format, and where in the model it lies."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from hfmem.dtypes import find_dtype
from hfmem.estimator.training.optimizers import Kept
from hfmem.estimator.training.values import Lora, Training
from hfmem.mapper.caches import Combined, State
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import Adapter, adapters, saved_groups
from hfmem.mapper.values import Architecture, Component, Dense, Experts, Layer, TensorGroup

__all__ = ["Piece", "Place", "has_part", "place_of", "share_of_layers", "trained_pieces"]

Place = Literal["first", "layers", "last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Tensors that are trained, all of one shape.

    Attributes:
        component, place: the part of the model, and which end of it.
        kept: one of them, as the optimizer sees it.
        count: how many.
        weight: bytes an element of the copy that layers compute with.
        gradient: bytes an element of the gradient.
        master: bytes an element of a second copy.
        adapter: whether it is an adapter's, which the base model does not hold.
        split: whether tensor-parallel ranks share it.
    """

    component: Component
    place: Place
    kept: Kept
    count: int
    weight: int
    gradient: int
    master: int
    adapter: bool = False
    split: bool = False

    @property
    def elements(self) -> int:
        """Of all tensors."""
        return self.kept.elements * self.count


def place_of(component: Component) -> Place:
    """Where a component lies: before the layers, in them, or after them."""
    if component in ("embedding", "vision", "audio", "projector"):
        return "first"
    return "last" if component == "lm_head" else "layers"


def trained_pieces(model: Model, training: Training) -> tuple[Piece, ...]:
    """Everything that gets a gradient."""
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
    found = adapters(model.parameters, lora.targets, model.architecture.model_type)
    pieces = [piece for adapter in found for piece in _pair(adapter, lora, training)]
    saved = saved_groups(model.parameters, lora.saved_modules)
    return (*pieces, *(_copy(group, training) for group in saved))


def _whole(group: TensorGroup, training: Training) -> Piece:
    precision = training.precision
    state, weight = find_dtype(precision.state), find_dtype(precision.weights)
    return Piece(
        component=group.component,
        place=place_of(group.component),
        kept=Kept(
            shape=group.shape,
            width=state.nbytes(1) if state else 4,
            embedding=group.component == "embedding",
            matrix=group.linear,
            rank=training.optimizer_rank,
        ),
        count=group.count,
        weight=weight.nbytes(1) if weight else 2,
        gradient=precision.gradient,
        master=precision.master,
        split=group.linear or group.component in ("embedding", "lm_head"),
    )


def _pair(adapter: Adapter, lora: Lora, training: Training) -> list[Piece]:
    """The two matrices of an adapter, and with DoRA a magnitude a row."""
    rank = adapter.ranks * lora.rank
    shapes: list[tuple[int, ...]] = [(rank, adapter.inputs), (adapter.outputs, rank)]
    if lora.dora:
        shapes.append((adapter.outputs,))
    return [_adapter(adapter.group.component, shape, adapter.count, training.adapter_bytes) for shape in shapes]


def _copy(group: TensorGroup, training: Training) -> Piece:
    """A module that is trained in full: PEFT copies it, and keeps the original."""
    return _adapter(group.component, group.shape, group.count, training.adapter_bytes)


def _adapter(component: Component, shape: tuple[int, ...], count: int, width: int) -> Piece:
    return Piece(
        component=component,
        place=place_of(component),
        kept=Kept(shape=shape, width=width, matrix=False),
        count=count,
        weight=width,
        gradient=width,
        master=0,
        adapter=True,
    )


def share_of_layers(architecture: Architecture, component: Component, start: int, stop: int) -> Fraction:
    """How much of a component's tensors lies in layers `start` to `stop`: by the layers that have such a part."""
    layers = architecture.layers or ()
    if not layers or (start <= 0 and stop >= len(layers)):
        return Fraction(1)
    holders = [index for index, layer in enumerate(layers) if _has(layer, component)] or list(range(len(layers)))
    return Fraction(sum(start <= index < stop for index in holders), len(holders))


def has_part(architecture: Architecture, component: Component, index: int) -> bool:
    """Whether a layer has tensors of a component."""
    layers = architecture.layers or ()
    return index < len(layers) and _has(layers[index], component)


def _has(layer: Layer, component: Component) -> bool:
    if component in ("experts", "router", "shared_experts"):
        return isinstance(layer.ffn, Experts)
    if component == "mlp":
        return isinstance(layer.ffn, Dense)
    if component == "attention":
        return layer.heads > 0
    if component == "state":
        caches = layer.cache.caches if isinstance(layer.cache, Combined) else (layer.cache,)
        return any(isinstance(cache, State) for cache in caches)
    return True
