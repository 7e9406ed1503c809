"""What training software does beyond the arithmetic of the model: one row a stack, each difference with its source.

The logits and their loss are where stacks differ most. A row gives the bytes per token at the peak of that phase, above
what the layers keep, as a multiple of the vocabulary and of the hidden size; where it gives none, the measured
coefficients of the installed transformers hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["DEFAULT_STACK", "STACKS", "Stack", "find_stack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A combination of software.

    Attributes:
        name: what `--stack` calls it.
        logits_vocabulary: bytes per token and vocabulary entry at the peak of the logits phase; None takes what is
            measured on transformers.
        logits_hidden: bytes per token and unit of the hidden size at the same time.
        sharded_logits: bytes per entry that FSDP adds: accelerate turns its outputs into float32.
        vocabulary_parallel: whether tensor-parallel ranks share the logits.
        fused_loss: whether head and loss are taken piece by piece (Liger).
        residual: bytes per element of the residual stream, where the software makes it wider than the compute dtype.
        autocast: whether layers run under autocast although weights are in the compute dtype already.
        fused_experts: whether experts are one parameter a layer, which quantisers of linear modules leave alone.
        workspaces: cuBLAS workspaces: one a thread that multiplies matrices.
        layers: the row of `hfmem.estimator.activations.sources` that tells the layers' activations.
        dropout: whether layers drop, with masks that stay (Megatron's formulas only).
        persistent_gradients: whether gradients have buffers that are there in every phase.
        untied: whether head and embedding are two tensors even where a model ties them.
        quantised_head: whether NF4 takes in the head.
        unpacked: bytes per element of an NF4 matrix unpacked to be multiplied.
        previous: whether a forward pass begins while logits and graph of the previous one are still referred to.
        longest_first: whether the longest sequences are those of the first micro-batch, before which nothing is kept.
        reentrant: whether checkpointing is the reentrant one, which runs a layer anew on detached inputs.
        mixed_units: whether FSDP's units hold frozen weights beside trained ones, which get gradients with them.
        optimizer: the default optimizer.
        precision: the default precision; None follows the model's dtype.
        split: the row of `hfmem.estimator.training.split` that tells how a model is laid on ranks.
        source: the evidence.
    """

    name: str
    logits_vocabulary: int | None = None
    logits_hidden: int = 0
    sharded_logits: int = 0
    vocabulary_parallel: bool = False
    fused_loss: bool = False
    residual: int | None = None
    autocast: bool = False
    fused_experts: bool = False
    workspaces: int = 2
    layers: str = "measured"
    dropout: bool = False
    persistent_gradients: bool = False
    untied: bool = False
    quantised_head: bool = False
    unpacked: int = 2
    previous: bool = False
    longest_first: bool = False
    reentrant: bool = False
    mixed_units: bool = False
    optimizer: str = "adamw"
    precision: str | None = None
    split: Literal["trainer", "replicas", "megatron"] = "trainer"
    source: str

    @property
    def own_attention(self) -> bool:
        """Whether the attention is not that of the installed transformers' classes."""
        return self.layers != "measured" or self.residual is not None


DEFAULT_STACK: Final = "transformers-5"

_FMS: Final = "A100 runs of github.com/foundation-model-stack/fms-acceleration, scripts/benchmarks/refs"
_V48: Final = "transformers 4.48: bf16 logits, float32 copy, shifted copy, log-softmax, 2 + 4 + 4 + 4 B per entry"
_V45: Final = "transformers 4.45: float32 logits in place of the bf16 ones, shifted copy, log-softmax, 4 + 4 + 4 B"
_FOAK: Final = "fms-acceleration-foak: fused cross-entropy in place, without the shifted copy"
_LITGPT: Final = (
    "litgpt 0.4: model.py has a head of its own, FSDPStrategy of lora.py wraps whole blocks; Lightning Fabric: "
    "float32 logits, every linear module in NF4, unpacked in float16 and cast; bitsandbytes before 0.43: MatMul4Bit "
    "keeps inputs"
)
_KBIT: Final = "peft prepare_model_for_kbit_training: norms in float32, and with them the residual stream"

STACKS: Final[tuple[Stack, ...]] = (
    Stack(
        name="transformers-5",
        fused_experts=True,
        source="transformers 5: float32 logits for the loss (loss/loss_utils.py), labels shifted instead of logits",
    ),
    Stack(
        name="transformers-4.48",
        split="replicas",
        reentrant=True,
        logits_vocabulary=14,
        logits_hidden=6,
        sharded_logits=2,
        source=f"{_V48}; {_FMS}/a100_80gb.csv",
    ),
    Stack(
        name="transformers-4-own-loss",
        split="replicas",
        reentrant=True,
        logits_vocabulary=8,
        logits_hidden=6,
        source="transformers 4: classes that compute their loss themselves (GPTBigCode, …) keep the logits' dtype: "
        "logits, shifted copy, log-softmax and its gradient, 2 B each",
    ),
    Stack(
        name="transformers-4.48-kbit",
        split="replicas",
        reentrant=True,
        logits_vocabulary=14,
        logits_hidden=6,
        sharded_logits=2,
        residual=4,
        autocast=True,
        source=f"{_V48}; {_KBIT}; {_FMS}/a100_80gb.csv",
    ),
    Stack(
        name="transformers-4.48-foak",
        split="replicas",
        reentrant=True,
        logits_vocabulary=10,
        logits_hidden=4,
        sharded_logits=2,
        source=f"{_V48}; {_FOAK}; {_FMS}/a100_80gb.csv",
    ),
    Stack(
        name="transformers-4.45",
        split="replicas",
        reentrant=True,
        logits_vocabulary=12,
        logits_hidden=6,
        source=f"{_V45}; {_FMS}/a100_80gb_granite.csv",
    ),
    Stack(
        name="transformers-4.45-kbit",
        split="replicas",
        reentrant=True,
        logits_vocabulary=12,
        logits_hidden=6,
        residual=4,
        autocast=True,
        source=f"{_V45}; {_KBIT}; {_FMS}/a100_80gb_granite.csv",
    ),
    Stack(
        name="transformers-4.45-foak",
        split="replicas",
        reentrant=True,
        logits_vocabulary=8,
        logits_hidden=6,
        source=f"{_V45}; {_FOAK}; {_FMS}/a100_80gb_granite.csv and a100_80gb_liger.csv",
    ),
    Stack(
        name="transformers-4.45-liger",
        split="replicas",
        reentrant=True,
        fused_loss=True,
        source=f"{_FMS}/a100_80gb_liger.csv (foak-liger plugins): liger-kernel's fused linear cross-entropy",
    ),
    Stack(
        name="megatron",
        split="megatron",
        logits_vocabulary=6,
        vocabulary_parallel=True,
        layers="megatron",
        dropout=True,
        persistent_gradients=True,
        optimizer="adamw-fused",
        precision="megatron-bf16",
        source="Megatron Core: bf16 logits and their float32 copy, shared by tensor-parallel ranks, 2 + 4 B per entry; "
        "golden values of its functional tests (github.com/NVIDIA/Megatron-LM, tests/functional_tests)",
    ),
    Stack(
        name="megatron-no-dropout",
        split="megatron",
        logits_vocabulary=6,
        vocabulary_parallel=True,
        layers="megatron",
        persistent_gradients=True,
        optimizer="adamw-fused",
        precision="megatron-bf16",
        source="as megatron, with --hidden-dropout 0",
    ),
    Stack(
        name="litgpt",
        split="replicas",
        layers="litgpt",
        untied=True,
        quantised_head=True,
        unpacked=4,
        previous=True,
        mixed_units=True,
        source=f"{_LITGPT}; github.com/Lightning-AI/litgpt, config_hub/finetune/README.md",
    ),
    Stack(
        name="litgpt-longest-first",
        split="replicas",
        layers="litgpt",
        untied=True,
        quantised_head=True,
        unpacked=4,
        longest_first=True,
        mixed_units=True,
        source=f"{_LITGPT}; finetune/lora.py of October 2023 takes the longest sample in its first step, before which "
        "nothing was kept; github.com/Lightning-AI/litgpt, tutorials/resource-tables.md",
    ),
)

_BY_NAME: Final = {row.name: row for row in STACKS}


def find_stack(name: str) -> Stack | None:
    """The row of a name; None where it is not known."""
    return _BY_NAME.get(name.lower())
