"""The settings of a training run, with every open option resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hfmem.estimator.recipe.optimizers import Optimizer
from hfmem.estimator.recipe.peft import Method
from hfmem.estimator.recipe.precisions import Precision
from hfmem.estimator.recipe.stacks import Stack
from hfmem.estimator.recipe.trainers import Tuning
from hfmem.estimator.scenario import Scenario
from hfmem.options.words import Head

__all__ = [
    "Batching",
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
Batching = Literal["full", "padded", "joined"]
"""Rows of a batch: all of full length, padded to the longest, or joined into one without padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """LoRA adapters, as in PEFT (arXiv 2106.09685).

    Attributes:
        rank: rank of each adapter.
        targets: names of the modules that get one, or only `all-linear`.
        dropout: probability; above 0 each adapter saves a mask and its own input.
        dtype: dtype of the adapters' weights.
        dora: whether each also has a magnitude vector (arXiv 2402.09353).
        saved_modules: names of modules that are trained in full in addition (`modules_to_save`).
        method: another method of PEFT; None for LoRA.
        tokens: virtual tokens, or trained rows of the embedding.
        inward: targets of IA3 whose input is scaled.
    """

    rank: int
    targets: tuple[str, ...]
    dropout: float
    dtype: str
    dora: bool
    saved_modules: tuple[str, ...]
    method: Method | None = None
    tokens: int = 0
    inward: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """An evaluation between steps of training.

    Attributes:
        batch: rows of a batch on each GPU.
        logits: whether logits are kept for metrics, and not only the loss.
        rows: rows of the evaluation set; 0 where they do not matter.
        accumulation: batches whose logits stay on the GPU before they are moved to the host; 0 for all.
    """

    batch: int
    logits: bool = False
    rows: int = 0
    accumulation: int = 0

    def batches(self, replicas: int) -> int:
        """The most batches whose logits are on a GPU at once."""
        every = -(-self.rows // (self.batch * replicas)) if self.rows else self.accumulation
        return min(every, self.accumulation or every)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a model is trained.

    Attributes:
        method: all weights (`full`), adapters (`lora`), adapters on a 4-bit base (`qlora`).
        optimizer, precision, stack: rows of their tables.
        precision_asked: whether the user gave the precision; else it follows from `own_dtype` and the rest.
        own_dtype: floating-point dtype of the model's weights before training; None where it is unknown.
        optimizer_rank: rank of low-rank optimizers; 0 for others.
        checkpointing: what is recomputed in backward: nothing, the attention scores, or whole layers.
        accumulation: micro-batches per optimizer step; above 1 gradients stay alive in between.
        fused_loss: whether head and loss are computed in chunks (Liger's fused linear cross-entropy).
        head: what follows the layers.
        frozen: components that are not trained.
        lora: the adapters; None for `full`.
        double_quant: whether the scales of NF4 are quantised too.
        zero: ZeRO stage (0 for none); FSDP is stage 3 with `fsdp` set.
        fsdp: whether the sharding is FSDP's.
        shard: ranks over which one copy is sharded; other groups of ranks replicate it (hybrid sharding).
        offload: what is kept in host memory.
        sequence_parallel: whether activations between the linear layers are split over tensor-parallel ranks too.
        virtual_stages: model chunks per pipeline rank (interleaved schedule).
        batching: how rows are put into a batch.
        tuning: the settings of a trainer of TRL; None for a plain Trainer.
        evaluation: the evaluation between steps; None without one.
    """

    method: TrainMethod
    optimizer: Optimizer
    precision: Precision
    stack: Stack
    precision_asked: bool = False
    own_dtype: str | None = None
    optimizer_rank: int = 0
    checkpointing: Checkpointing = "none"
    accumulation: int = 1
    fused_loss: bool = False
    head: Head = "lm"
    frozen: tuple[str, ...] = ()
    lora: Lora | None = None
    double_quant: bool = False
    zero: int = 0
    fsdp: bool = False
    shard: int = 1
    offload: Offload = "none"
    sequence_parallel: bool = False
    virtual_stages: int = 1
    batching: Batching = "full"
    tuning: Tuning | None = None
    evaluation: Evaluation | None = None

    @property
    def labels(self) -> int:
        """Outputs of a classifier that replaces a model's own head: one for Reward, otherwise those of a config
        without `num_labels` (transformers 5.24, configuration_utils.py)."""
        return 1 if self.tuning is not None else 2

    @property
    def fused_head(self) -> bool:
        """Whether the gradient of the LM head comes from an autograd function that computes head and loss in one."""
        tiled = self.tuning is not None and self.tuning.head == "fused"
        return tiled or self.fused_loss or self.stack.fused_loss

    @property
    def keeps_prefix(self) -> bool:
        """Whether layers get keys and values of virtual tokens, which PEFT refuses to recompute."""
        return self.lora is not None and self.lora.method is not None and self.lora.method.kind == "prefix"

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
