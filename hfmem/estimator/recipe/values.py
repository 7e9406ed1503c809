"""What a training run assumes, with every choice made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hfmem.estimator.recipe.optimizers import Optimizer
from hfmem.estimator.recipe.precisions import Precision
from hfmem.estimator.recipe.stacks import Stack
from hfmem.estimator.values import Scenario

__all__ = [
    "Checkpointing",
    "Lora",
    "Offload",
    "TrainMethod",
    "Training",
    "TrainingScenario",
]

TrainMethod = Literal["full", "lora", "qlora"]
Checkpointing = Literal["none", "selective", "full"]
Offload = Literal["none", "optimizer", "parameters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank adapters, as PEFT makes them (arXiv 2106.09685).

    Attributes:
        rank: of each adapter.
        targets: names of the modules that get one, or `all-linear` alone.
        dropout: probability; above 0 each adapter keeps a mask and its own input.
        dtype: dtype of the adapters' weights.
        dora: whether each has a magnitude a row besides (arXiv 2402.09353).
        saved_modules: names of modules that are trained in full beside the adapters (`modules_to_save`).
    """

    rank: int
    targets: tuple[str, ...]
    dropout: float
    dtype: str
    dora: bool
    saved_modules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a model is trained.

    Attributes:
        method: all weights (`full`), adapters (`lora`), adapters on a 4-bit base (`qlora`).
        optimizer, precision, stack: rows of their tables.
        precision_asked: whether a person named the precision; else it follows from the rest.
        optimizer_rank: rank of low-rank optimizers; 0 for others.
        checkpointing: what is computed anew in backward: nothing, the attention scores, or whole layers.
        accumulation: micro-batches to one optimizer step; above 1 gradients stay in between.
        fused_loss: whether the head and its loss are computed piece by piece (Liger's fused linear cross-entropy).
        frozen: components that are not trained.
        lora: the adapters; None for `full`.
        double_quant: whether the scales of NF4 are quantised too.
        zero: ZeRO stage (0 for none); FSDP is stage 3 with units of its own.
        fsdp: whether the sharding is FSDP's.
        shard: ranks that share one copy of what is sharded; the rest hold copies (hybrid sharding).
        offload: what lives in the host's memory.
        sequence_parallel: whether tensor-parallel ranks share what lies between the matrices too.
        virtual_stages: pieces of the model on one pipeline rank (interleaved schedule).
    """

    method: TrainMethod
    optimizer: Optimizer
    precision: Precision
    stack: Stack
    precision_asked: bool = False
    optimizer_rank: int = 0
    checkpointing: Checkpointing = "none"
    accumulation: int = 1
    fused_loss: bool = False
    frozen: tuple[str, ...] = ()
    lora: Lora | None = None
    double_quant: bool = False
    zero: int = 0
    fsdp: bool = False
    shard: int = 1
    offload: Offload = "none"
    sequence_parallel: bool = False
    virtual_stages: int = 1

    @property
    def adapter_bytes(self) -> int:
        """Bytes per element of the adapters."""
        return 4 if self.lora is not None and self.lora.dtype == "float32" else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingScenario(Scenario):
    """A scenario in which the model is trained.

    Attributes:
        training: how. The rest as in `Scenario`.
    """

    training: Training
