"""Options on training: method, software and recipe."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from hfmem.options.option import Need, Option
from hfmem.options.panels import TRAINING
from hfmem.options.words import OBJECTIVES, Head, Train

__all__ = ["TrainingOptions"]

_MOST = 10**6
_choice = partial(Option, panel=TRAINING, modes=("training",))
_exact = partial(_choice, methods=("exact",))

_evaluates = partial(_exact, least=1, most=10**9)
_WITH_BATCH = Need(sentence="needs --eval-batch-size", met=lambda asked: asked.eval_batch_size is not None)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class TrainingOptions:
    """Options of a training step; None leaves the choice to the software."""

    train: Annotated[
        Train | None,
        Option(
            help="Estimate training: all weights, LoRA adapters, or LoRA adapters on a 4-bit base (full, lora, qlora); "
            "or a trainer of TRL (sft, dpo, kto, grpo, rloo, reward)",
            panel=TRAINING,
            common=True,
            needs=(
                Need(
                    sentence="can be used with --method textbook only as --train full",
                    met=lambda asked: asked.method != "textbook" or asked.train == "full",
                ),
            ),
        ),
    ] = None
    optimizer: Annotated[
        str | None,
        _choice(
            help="Optimizer: adamw, adamw-fused, adamw-8bit, adafactor, lion, muon, … (textbook: adam or sgd)",
            common=True,
            metavar="NAME",
            shown="adamw, or the training stack's default",
        ),
    ] = None
    optimizer_in_backward: Annotated[
        bool,
        _exact(
            help="Step each tensor as soon as its gradient is there, and free that",
            needs=(
                Need(
                    sentence="excludes --gradient-accumulation: there is no gradient to add to",
                    met=lambda asked: (asked.gradient_accumulation or 1) == 1 or not asked.optimizer_in_backward,
                ),
            ),
            keys=("optimizer_in_bwd",),
        ),
    ] = False
    optimizer_rank: Annotated[int | None, _exact(help="Rank of GaLore or APOLLO", shown="128", least=1, most=_MOST)] = (
        None
    )
    precision: Annotated[
        str | None,
        _exact(
            help="Training precision: bf16, fp32, autocast-bf16, bf16-master, megatron-bf16, …",
            metavar="NAME",
            shown="the dtype of the weights",
        ),
    ] = None
    stack: Annotated[
        str | None,
        _exact(
            help="Training software: transformers-4.48, axolotl, torchtune, megatron, litgpt, …",
            metavar="NAME",
            shown="transformers-5",
        ),
    ] = None
    gradient_checkpointing: Annotated[
        bool | None,
        _exact(
            help="Recompute layers in the backward pass",
            common=True,
            shown="no; TRL's trainers do",
            keys=("activation_checkpointing", "fsdp_activation_checkpointing"),
        ),
    ] = None
    selective_checkpointing: Annotated[
        bool,
        _exact(
            help="Recompute only attention scores in the backward pass",
            needs=(
                Need(
                    sentence="is already covered by --gradient-checkpointing",
                    met=lambda asked: not asked.gradient_checkpointing,
                ),
            ),
        ),
    ] = False
    gradient_accumulation: Annotated[
        int | None,
        _exact(
            help="Micro-batches per optimizer step",
            shown="1",
            least=1,
            most=_MOST,
            keys=("gradient_accumulation_steps",),
        ),
    ] = None
    fused_loss: Annotated[
        bool,
        _exact(
            help="Compute the LM head and the loss in chunks (Liger, linear cross-entropy)",
            keys=(
                "use_liger_kernel",
                "enable_liger_kernel",
                "liger_fused_linear_cross_entropy",
                "cut_cross_entropy",
            ),
        ),
    ] = False
    head: Annotated[
        Head | None,
        _exact(
            help="What follows the layers: logits over the vocabulary, a classifier, a pooled embedding, or nothing",
            shown="that of the model's class",
            needs=(
                Need(
                    sentence="classification, embedding and none have no loss over the vocabulary to fuse",
                    met=lambda asked: asked.head in (None, "lm") or not asked.fused_loss,
                ),
                Need(
                    sentence="is for --train full, lora and qlora: a trainer of TRL loads the class that it needs",
                    met=lambda asked: asked.train not in OBJECTIVES,
                ),
            ),
        ),
    ] = None
    freeze: Annotated[
        tuple[str, ...],
        _exact(help="Components to freeze: embedding,vision,…", metavar="PARTS", words=True),
    ] = ()
    eval_batch_size: Annotated[
        int | None,
        _evaluates(
            help="Rows of a batch when the Trainer evaluates between steps",
            shown="no evaluation",
            needs=(
                Need(
                    sentence="is for --train full, lora and qlora: a trainer of TRL evaluates in its own way",
                    met=lambda asked: asked.train not in OBJECTIVES,
                ),
            ),
            keys=("per_device_eval_batch_size", "per_gpu_eval_batch_size"),
        ),
    ] = None
    eval_logits: Annotated[
        bool,
        _evaluates(
            help="Evaluation keeps logits for metrics (compute_metrics), and not only the loss",
            needs=(
                _WITH_BATCH,
                Need(
                    sentence="needs --eval-samples or --eval-accumulation-steps: how many logits there are at once",
                    met=lambda asked: bool(asked.eval_samples or asked.eval_accumulation_steps),
                ),
            ),
        ),
    ] = False
    eval_samples: Annotated[
        int | None, _evaluates(help="Rows of the evaluation set", shown="enough for all", needs=(_WITH_BATCH,))
    ] = None
    eval_accumulation_steps: Annotated[
        int | None,
        _evaluates(
            help="Batches of evaluation before logits are moved to the host",
            shown="all",
            needs=(_WITH_BATCH,),
            keys=("eval_accumulation_steps",),
        ),
    ] = None
