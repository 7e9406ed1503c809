"""From the user's options to the settings of a trainer of TRL, and the defaults that a trainer brings along."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Final

from hfmem.estimator.recipe.trainers import Head, Reference, Trainer, Tuning, find_trainer
from hfmem.estimator.recipe.values import Batching
from hfmem.options.words import Head as HeadWord
from hfmem.options.words import trained_as
from hfmem.refusals.training import GenerationsError

if TYPE_CHECKING:
    from hfmem.mapper.values import Architecture
    from hfmem.scenario.options import Options

__all__ = ["batch_of", "batch_steps", "batching_of", "head_of", "recomputes", "seq_of", "tuning_of"]

_PROMPT: Final = 512  # tokens assumed of a prompt, where a trainer has no limit
_SHARE: Final = 0.3  # TRL's vllm_gpu_memory_utilization, grpo_config.py:656


def batch_of(options: Options) -> tuple[int, str]:
    """The batch, and a sentence if a trainer takes no single row: then the fewest that it takes are the default."""
    trainer = find_trainer(options.train)
    if trainer is None or options.batch > 1:
        return options.batch, ""
    if trainer.online:
        generations = options.num_generations or trainer.generations
        if _whole_groups(options, options.batch, generations):
            return options.batch, ""
        return generations, f"--batch {generations}: the completions of one prompt."
    why = "the fewest that TRL's trainer takes"
    return trainer.least, f"--batch {trainer.least}: {why}." if trainer.least > 1 else ""


def batch_steps(options: Options) -> tuple[int, int]:
    """The smallest micro-batch that a trainer takes, and the step to the next: whole groups of completions."""
    trainer = find_trainer(options.train)
    if trainer is None:
        return 1, 1
    if not trainer.online:
        return trainer.least, 1
    generations = options.num_generations or trainer.generations
    step = generations // gcd(generations, _micro_batches(options))
    return step, step


def seq_of(options: Options, architecture: Architecture) -> tuple[int, str] | None:
    """The trainer's default length, and a sentence; None without a trainer, or where the length is given."""
    trainer = find_trainer(options.train)
    if trainer is None or options.seq is not None:
        return None
    longest = architecture.max_positions
    completion = options.max_completion_length or trainer.completion
    seq = trainer.seq or _PROMPT + completion
    if trainer.seq:
        seq = max(seq, options.max_completion_length or 0)
        why = f"TRL's max_length for {trainer.title}"
    else:
        why = f"a prompt of {_PROMPT} tokens, which TRL does not limit, and a completion of {completion:,}"
    if longest is not None and longest < seq:
        return longest, f"--seq {longest:,}: the maximum of the model."
    return seq, f"--seq {seq:,}: {why}."


def recomputes(options: Options) -> tuple[bool, str]:
    """Whether layers are recomputed, and a sentence if that is a default of the trainer."""
    if options.gradient_checkpointing is not None or options.selective_checkpointing:
        return bool(options.gradient_checkpointing), ""
    if find_trainer(options.train) is None:
        return False, ""
    return True, "--gradient-checkpointing: TRL's default; use --no-gradient-checkpointing to keep activations."


def batching_of(options: Options, rows: int) -> tuple[Batching, str]:
    """How rows are put into a batch, and a sentence if that is a default."""
    if options.padding:
        return "padded", ""
    if options.padding_free:
        return "joined", ""
    trainer = find_trainer(options.train)
    if options.packing:
        whole = trainer is not None and options.packing_strategy != "wrapped"
        return ("joined", "Packed rows (bfd) are joined into one without padding.") if whole else ("full", "")
    if trainer is None or rows == 1:
        return "full", ""
    instead = "; --padding-free and --packing need none" if trainer.name == "sft" else ""
    return "padded", f"--padding: TRL pads rows to the longest, which takes a mask{instead}."


def tuning_of(options: Options, seq: int) -> tuple[Tuning | None, list[str]]:
    """The trainer's settings, and a sentence for each default; None for a plain Trainer.

    Raises:
        GenerationsError: the batch is not a multiple of the completions of a prompt.
    """
    trainer = find_trainer(options.train)
    if trainer is None:
        return None, []
    beta = trainer.beta if options.beta is None else options.beta
    generations = (options.num_generations or trainer.generations) if trainer.online else 0
    batch, _ = batch_of(options)
    if generations and not _whole_groups(options, batch, generations):
        raise GenerationsError(batch, generations)
    completion = options.max_completion_length or trainer.completion
    loss = options.loss_type or trainer.loss
    tuning = Tuning(
        trainer=trainer,
        completion=min(completion or seq, seq),
        head=_head(options, trainer),
        reference=_reference(options, trainer, beta),
        divergence=trainer.name == "kto" and loss != "apo_zero_unpaired",
        loss=loss,
        beta=beta,
        generations=generations,
        vllm=options.vllm_mode if trainer.online else None,
        share=options.vllm_gpu_memory_utilization or _SHARE,
        sleeps=options.vllm_enable_sleep_mode,
    )
    return tuning, _defaults(options, tuning)


def _defaults(options: Options, tuning: Tuning) -> list[str]:
    """A sentence for each default that matters."""
    trainer, told = tuning.trainer, []
    if trainer.reference == "before" and options.beta is None:
        told.append(f"--beta {tuning.beta:g}: TRL's default{'' if tuning.beta else ', without a reference model'}.")
    if tuning.generations and options.num_generations is None:
        told.append(f"--num-generations {tuning.generations}: TRL's default.")
    if trainer.completion and options.max_completion_length is None:
        told.append(f"--max-completion-length {tuning.completion:,}: TRL's default.")
    return told


def head_of(options: Options) -> HeadWord | None:
    """What follows the layers: what a trainer loads, else what the user says; None where that is the model's class."""
    trainer = find_trainer(options.train)
    if trainer is None:
        return options.head
    return "classification" if trainer.head == "classes" else "lm"


def _head(options: Options, trainer: Trainer) -> Head:
    return "logits" if trainer.name == "sft" and options.label_smoothing else trainer.head


def _reference(options: Options, trainer: Trainer, beta: float) -> Reference:
    if trainer.reference == "never" or options.precompute_ref_log_probs:
        return "none"
    if trainer.reference == "before" and not beta:
        return "none"
    return "copy" if trained_as(options) == "full" else "adapters off"


def _whole_groups(options: Options, batch: int, generations: int) -> bool:
    """Whether what is generated for a step, on all replicas, holds all completions of each prompt."""
    return batch * _micro_batches(options) % generations == 0


def _micro_batches(options: Options) -> int:
    """Micro-batches of a step on all replicas."""
    return (options.dp or options.gpus or 1) * (options.gradient_accumulation or 1)
