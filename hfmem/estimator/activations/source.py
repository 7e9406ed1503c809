"""The interface of activation sources for training: bytes of one micro-batch at the moments of a step, and the linear
modules that can get adapters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hfmem.estimator.parallel import Parallel
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Certainty
from hfmem.unknown import Unknown

__all__ = ["ActivationSource", "Linear", "TrainedTower", "TrainingActivations", "TrainingEncoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedTower:
    """A tower in a training step.

    Attributes:
        saved: bytes from its forward pass to its backward pass, pixels included.
        backward: bytes of its backward pass above `saved`, without gradients of parameters.
        forward: bytes of its forward pass above `saved`, where it saves nothing for a backward pass; else 0.
        how: the arithmetic of `saved`.
        source: where the polynomials are from.
    """

    saved: int
    backward: int
    forward: int
    how: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear module of a layer.

    Attributes:
        module: its name, by which adapters are matched.
        inputs, outputs: in_features and out_features.
        shares_input_with: number of its input tensor: modules with the same number read the same tensor.
        input_saved: whether the layer saves that input even if the module is frozen.
    """

    module: str
    inputs: int
    outputs: int
    shares_input_with: int
    input_saved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEncoder:
    """The encoder beside a decoder in a training step; its backward pass comes when the decoder's is done.

    Attributes:
        layers: how many it has.
        kept: bytes that each saves until its backward pass; `TrainingActivations.outside` has them all.
        backward: the peak of a layer's backward pass on top of the saved tensors of earlier ones, with what else is
            still alive outside the layers, without gradients of parameters.
        reached: with a frozen base, what is alive at the backward pass of its last linear module, counted as
            `backward`, without the gradient of that module's input.
        before_attending, attending: as in `TrainingActivations`, counted as `backward`.
        backward_gradients: bytes of gradients of its own parameters at the moment of `backward`; None: all of them.
        weights: elements of a layer's parameters, or of its linear modules where they are frozen.
        trained: elements of a layer's trained parameters.
        linears: the linear modules of a layer that can get adapters.
    """

    layers: int
    kept: int
    backward: int
    reached: int
    before_attending: int
    attending: int
    backward_gradients: int | None
    weights: int
    trained: int
    linears: tuple[Linear, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingActivations:
    """Bytes of one micro-batch on one GPU.

    Attributes:
        outside: saved outside the layers after the forward pass (embedding, masks, …).
        layers: per layer, saved until its backward (with gradient checkpointing: its input only).
        logits: the peak of head and loss, forward and backward, on top of `outside` and all layers.
        backward: per layer, the peak of its backward on top of `outside` and the saved tensors of earlier layers: its
            own saved tensors (with gradient checkpointing: recomputed ones) and temporaries, without parameter
            gradients.
        begun: per layer, bytes at the start of its backward on top of `outside` and of earlier layers: its saved
            tensors (with gradient checkpointing: its input too) and the gradient of its output. Only for sources that
            adapters are added to.
        attending: per layer, as `backward`, but of the moments in which the attention scores of eager attention have
            gradients, or are gone; 0 where there are none. Only for sources that adapters are added to.
        before_attending: per layer, as `backward`, of all other moments.
        forward: per layer, the peak of its forward pass on top of `outside` and the saved tensors of earlier layers; 0
            where that of its backward pass is known to be higher. Empty where unknown.
        logits_gradients: gradients of the head's parameters at the moment of `logits`.
        normed: the part of `logits` that does not depend on the vocabulary: what the last norm saves.
        backward_gradients: per layer, gradients of its own parameters at the moment of `backward`; None where unknown,
            and all of them are counted then.
        encoder: the encoder beside the layers; None without one, or where nothing is known of it.
        certainty, how, source: as in `Term`, for all of these.
    """

    outside: int
    layers: tuple[int, ...]
    logits: int
    backward: tuple[int, ...]
    begun: tuple[int, ...] = ()
    attending: tuple[int, ...] = ()
    before_attending: tuple[int, ...] = ()
    forward: tuple[int, ...] = ()
    logits_gradients: int = 0
    normed: int = 0
    backward_gradients: tuple[int, ...] | None = None
    encoder: TrainingEncoder | None = None
    certainty: Certainty
    how: str
    source: str


class ActivationSource(Protocol):
    """Coefficients or formulas for the activations of one training software.

    Attributes:
        of_one_rank: whether bytes are per tensor-parallel rank already, and not of the whole layer.
        brings_adapters: whether bytes include those of adapters.
        takes_adapters: whether training with adapters is described.
    """

    @property
    def of_one_rank(self) -> bool: ...

    @property
    def brings_adapters(self) -> bool: ...

    @property
    def takes_adapters(self) -> bool: ...

    def activations(self, model: Model, scenario: TrainingScenario, plan: Parallel) -> TrainingActivations | Unknown:
        """Bytes of one micro-batch on one GPU of a plan, or why they are unknown."""
        ...

    def counts_encoder(self, model: Model, scenario: TrainingScenario) -> bool:
        """Whether the activations include those of an encoder's tokens."""
        ...

    def linears(self, model: Model, scenario: TrainingScenario, index: int) -> tuple[Linear, ...] | None:
        """The linear modules of a layer that can get adapters; None where they are unknown."""
        ...
