"""What some estimates have beside their terms: facts on training, a prompt in chunks."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["InPieces", "TrainingFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InPieces:
    """The estimate if the prompt were run in chunks.

    Attributes:
        tokens: tokens per chunk.
        total: bytes.
    """

    tokens: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """Figures of a training run that the phases do not show.

    Attributes:
        trainable: trainable parameters.
        allocated: the peak of PyTorch's allocator: the total without the CUDA context and communication buffers.
        steady: allocated bytes between steps, after the gradients are freed.
        gradients: bytes of all gradients on this GPU, which stay until the next step frees them.
        reserved: lower and upper bound of what `nvidia-smi` shows at the peak, CUDA context included.
        reserved_source: where that range is from.
        host: bytes of host memory per GPU.
    """

    trainable: int
    allocated: int
    steady: int
    gradients: int
    reserved: tuple[int, int]
    reserved_source: str
    host: int
