"""Autocast's copies of float32 weights in the compute dtype.

Of a trained matrix one copy is made per forward pass, and kept to its end: `cached_cast` keeps those of leaves that
require a gradient. Of a frozen one each use makes a copy, which the graph keeps for the gradient of the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from hfmem.estimator.activations.source import TrainingEncoder
from hfmem.estimator.split.share import place_of
from hfmem.estimator.training.gpu import Gpu
from hfmem.estimator.values import Term
from hfmem.estimator.weights.base import replaced
from hfmem.mapper.values import Component

__all__ = ["Casts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Casts:
    """The copies that layers run on, on one GPU.

    Attributes:
        gpu: the GPU.
        elements: of all layers' float32 matrices, by component; empty where nothing is cast.
        largest: elements of the largest matrix.
        encoder: the encoder beside the layers, whose matrices are among `elements`.
    """

    gpu: Gpu
    elements: Mapping[Component, int]
    largest: int
    encoder: TrainingEncoder | None = None

    @classmethod
    def of(cls, gpu: Gpu, encoder: TrainingEncoder | None = None) -> Casts:
        """The casts of a GPU; FSDP gathers its units in the compute dtype instead."""
        precision = gpu.training.precision
        elements: dict[Component, int] = {}
        if not precision.autocast or precision.weights != "float32" or gpu.training.fsdp:
            return cls(gpu=gpu, elements=elements, largest=0)
        nf4, largest = replaced(gpu.model, gpu.training), 0
        for group in gpu.model.parameters.groups if gpu.model.parameters is not None else ():
            inside = place_of(group.component, gpu.split.rules) == "inside"
            if inside and group.loaded and group.linear and id(group) not in nf4:
                elements[group.component] = elements.get(group.component, 0) + group.elements
                largest = max(largest, group.elements // group.count)
        return cls(gpu=gpu, elements=elements, largest=largest // gpu.plan.tp, encoder=encoder)

    def of_layers(self, first: int, layers: int) -> list[Term]:
        """The copies of the matrices of so many layers from one on."""
        if not self.elements:
            return []
        heard = self._heard
        total = (1 - heard) * sum(
            elements * float(self.gpu.share_of_layers(component, first, layers))
            for component, elements in self.elements.items()
        )
        if self.gpu.training.checkpointing != "full" or layers == self.gpu.stage.depth:
            total += heard * sum(self.elements.values())
        how = f"2 B per element of the matrices of {layers} layer{'s' if layers > 1 else ''}"
        return [self._term(ceil(2 * total / self.gpu.plan.tp), how)]

    def of_encoder(self, index: int, *, whole: bool) -> list[Term]:
        """The copies at the backward of a layer of the encoder: those up to it, or its own if it is recomputed."""
        if not self.elements or self.encoder is None:
            return []
        layers = 1 if whole else index + 1
        total = self._heard * sum(self.elements.values()) * layers / self.encoder.layers
        how = f"2 B per element of the matrices of {layers} layer{'s' if layers > 1 else ''} of the encoder"
        return [self._term(ceil(2 * total / self.gpu.plan.tp), how)]

    @property
    def _heard(self) -> float:
        """The encoder's part of all elements."""
        if self.encoder is None or not self.elements:
            return 0.0
        return min(1.0, self.encoder.layers * self.encoder.weights / sum(self.elements.values()))

    def of_largest(self) -> list[Term]:
        """The copy of the largest matrix."""
        if not self.elements:
            return []
        return [self._term(2 * self.largest, f"2 B per element of the largest matrix, {self.largest:,}")]

    def _term(self, nbytes: int, how: str) -> Term:
        source = self.gpu.training.precision.source
        return Term(name="cast weights", group="temporary", nbytes=nbytes, how=how, source=source, certainty="derived")
