"""What knows the activations of training answers alike: bytes of one micro-batch at the moments of a step, and the
linear modules that adapters can be put on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hfmem.estimator.parallel import Parallel
from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Certainty
from hfmem.unknown import Unknown

__all__ = ["ActivationSource", "Linear", "TrainingActivations"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingActivations:
    """Bytes of one micro-batch on one GPU.

    Attributes:
        outside: saved outside the layers once the forward pass is done (embedding, masks, …).
        layers: what each layer keeps until its backward (with gradient checkpointing: its input only).
        logits: the peak of head and loss, forward and backward, beyond `outside` and all layers.
        backward: of each layer: the most that its backward holds beyond `outside` and what the earlier layers keep: its
            own saved tensors (with gradient checkpointing: those computed anew) and what it makes; no gradients of
            parameters.
        begun: of each layer: what is there beyond `outside` and what the earlier layers keep as its backward begins:
            all that it keeps (with gradient checkpointing: its input too), and the gradient of its output. Only for
            layers that adapters go on.
        logits_gradients: gradients of the head's parameters that are there at that moment.
        backward_gradients: of each layer: gradients of its own parameters that are there at that moment; None where it
            is not known, and all of them are taken to be.
        certainty, how, source: of all of these.
    """

    outside: int
    layers: tuple[int, ...]
    logits: int
    backward: tuple[int, ...]
    begun: tuple[int, ...] = ()
    logits_gradients: int = 0
    backward_gradients: tuple[int, ...] | None = None
    certainty: Certainty
    how: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear module of a layer.

    Attributes:
        module: the label by which it is compared with adapters.
        inputs, outputs: its sizes.
        shares_input_with: number of the input: modules of one number read the same tensor.
        input_saved: whether the layer keeps that input anyway while the module is frozen.
    """

    module: str
    inputs: int
    outputs: int
    shares_input_with: int
    input_saved: bool


class ActivationSource(Protocol):
    """Coefficients or formulas for the activations of one training software.

    Attributes:
        of_one_rank: whether its bytes are those of one tensor-parallel rank already, and not of the whole layer.
        brings_adapters: whether they include those of adapters.
        takes_adapters: whether adapters can stand in for the training of all weights, as far as it is described.
    """

    @property
    def of_one_rank(self) -> bool: ...

    @property
    def brings_adapters(self) -> bool: ...

    @property
    def takes_adapters(self) -> bool: ...

    def activations(self, model: Model, scenario: TrainingScenario, plan: Parallel) -> TrainingActivations | Unknown:
        """The bytes of one micro-batch on one GPU of a plan, or why they are not known."""
        ...

    def counts_encoder(self, model: Model, scenario: TrainingScenario) -> bool:
        """Whether the activations are those of an encoder's tokens too."""
        ...

    def linears(self, model: Model, scenario: TrainingScenario, index: int) -> tuple[Linear, ...] | None:
        """The linear modules of a layer that adapters can be put on; None where they are not known."""
        ...
