"""Training software stacks, one row each: how each differs from the plain arithmetic of the model, with its source.

Stacks differ most in logits and loss. A row gives bytes per token at the peak of that phase, on top of the layers'
saved tensors, as multiples of the vocabulary and hidden sizes; a row without them uses the coefficients measured on
transformers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

__all__ = ["DEFAULT_STACK", "KIN", "STACKS", "Kin", "Stack", "find_stack", "kin_of", "stack_names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A combination of software.

    Attributes:
        name: its name in `--stack`.
        logits_vocabulary: bytes per token and vocabulary entry at the peak of the logits phase; None: as measured on
            transformers.
        logits_hidden: bytes per token and hidden unit at the same moment.
        sharded_logits: bytes per entry added under FSDP, as accelerate converts outputs to float32.
        vocabulary_parallel: whether the logits are split over tensor-parallel ranks.
        fused_loss: whether head and loss are computed in chunks (Liger).
        residual: bytes per element of the residual stream, where the software makes it wider than the compute dtype.
        autocast: whether layers run under autocast although weights have the compute dtype already.
        fused_experts: whether a layer's experts are one parameter, which quantisers of linear modules skip.
        workspaces: number of cuBLAS workspaces: one per thread that multiplies matrices.
        layers: the key in `hfmem.estimator.activations.sources` for the layers' activations.
        dropout: whether layers save dropout masks (Megatron's formulas only).
        persistent_gradients: whether gradients have buffers that exist in every phase.
        untied: whether head and embedding are separate tensors even where the model ties them.
        quantised_head: whether the head is quantised to NF4 too.
        unpacked: bytes per element of a dequantised NF4 matrix.
        previous: whether a forward pass starts while logits and graph of the previous one are still referenced.
        longest_first: whether the first micro-batch has the longest sequences, so that nothing of an earlier one is
            alive at the peak.
        reentrant: whether checkpointing is reentrant, recomputing a layer on detached inputs.
        mixed_units: whether FSDP units mix frozen and trained weights, so that frozen ones get gradients too.
        optimizer: the default optimizer.
        precision: the default precision; None follows the model's dtype.
        split: the key in `hfmem.estimator.training.split` for how a model is split over ranks.
        sharder: what shards: accelerate, as for transformers' Trainer, or PyTorch's FSDP alone.
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
    sharder: Literal["accelerate", "torch"] = "accelerate"
    source: str

    @property
    def accelerate(self) -> bool:
        """Whether it shards with accelerate, as transformers' Trainer does."""
        return self.layers == "measured" and self.sharder == "accelerate"

    @property
    def own_attention(self) -> bool:
        """Whether the attention differs from that of the installed transformers' classes."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Kin:
    """Software that trains as a row of the table does.

    Attributes:
        names: its names in `--stack`.
        of: the row.
        why: in which respect, and what is not counted.
        sharder: as in `Stack`.
        source: where that can be seen.
    """

    names: tuple[str, ...]
    of: str
    why: str
    sharder: Literal["accelerate", "torch"] = "accelerate"
    source: str


KIN: Final[tuple[Kin, ...]] = (
    Kin(
        names=("axolotl",),
        of=DEFAULT_STACK,
        why="its trainer is transformers'",
        source="axolotl 0.19.0, core/trainers/base.py:73",
    ),
    Kin(
        names=("llamafactory", "llama-factory"),
        of=DEFAULT_STACK,
        why="its trainer is transformers'",
        source="llamafactory 0.9.5, train/sft/trainer.py:47",
    ),
    Kin(
        names=("ms-swift", "swift"),
        of=DEFAULT_STACK,
        why="its trainer is transformers'",
        source="ms-swift 4.6.0, trainers/seq2seq_trainer.py:26; eight public figures of its examples "
        "(fixtures/training/reports.jsonl)",
    ),
    Kin(
        names=("unsloth",),
        of=DEFAULT_STACK,
        why="its trainer is TRL's; that its kernels and its checkpointing take less is not counted",
        source="unsloth 2026.10.9, trainer.py:1383",
    ),
    Kin(
        names=("torchtune",),
        of=DEFAULT_STACK,
        why="its layers save what those of transformers do; that its loss is in chunks is not counted",
        sharder="torch",
        source="torchtune 0.6.1, modules/loss/ce_chunked_output_loss.py; github.com/meta-pytorch/torchtune/pull/527 "
        "(fixtures/training/reports.jsonl)",
    ),
    Kin(
        names=("torchtitan",),
        of=DEFAULT_STACK,
        why="its layers save what those of transformers do, and its weights are float32 under FSDP; that it compiles "
        "layers is not counted",
        source="torchtitan 0.3.0, config/configs.py (dtype float32, mixed_precision_param bfloat16)",
    ),
    Kin(
        names=("megatron-bridge", "nemo"),
        of="megatron",
        why="it trains with Megatron Core",
        source="megatron-bridge 0.3.1, training/vlm_step.py:20",
    ),
    Kin(
        names=("megatron-swift",),
        of="megatron-no-dropout",
        why="it trains with Megatron Core",
        source="ms-swift 4.6.0, megatron/trainers; three public figures (fixtures/training/reports.jsonl)",
    ),
)
"""Software by its relatives; a row of its own needs measured runs."""

_KIN: Final = {name: kin for kin in KIN for name in kin.names}


def kin_of(name: str | None) -> Kin | None:
    """The software with a name, if it trains as a row does; None for the rows themselves."""
    return _KIN.get((name or "").lower())


def stack_names() -> tuple[str, ...]:
    """All names, rows first."""
    return (*_BY_NAME, *_KIN)


def find_stack(name: str) -> Stack | None:
    """The row with a name, or the one that the software with that name trains as; None for an unknown name."""
    kin = kin_of(name)
    row = _BY_NAME.get(kin.of if kin else name.lower())
    return replace(row, name=name.lower(), sharder=kin.sharder) if row is not None and kin is not None else row
