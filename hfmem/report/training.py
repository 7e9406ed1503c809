"""The part of reports for training only: phases, GPUs and advice. Imported only for such reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from hfmem.advice.values import Plan, Saving
from hfmem.estimator.recipe.trainers import Tuning
from hfmem.estimator.recipe.values import Lora, TrainingScenario
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Estimate, Rank
from hfmem.report.values import Report
from hfmem.units import format_bytes

__all__ = [
    "describe",
    "help_rows",
    "plan_rows",
    "scenario_fields",
    "software",
    "to_lines",
    "training_fields",
]


def describe(scenario: Scenario) -> str:
    """The training in one line."""
    plan = scenario.parallel
    if not isinstance(scenario, TrainingScenario):
        return f"full training with {scenario.optimizer}"
    training = scenario.training
    words = {"full": "full training", "lora": "LoRA", "qlora": "QLoRA"}[training.method]
    if training.lora is not None:
        words = _adapted(training.method, words, training.lora)
    if training.tuning is not None:
        words = f"{training.tuning.trainer.title} of TRL, {words}"
    parts = [f"{words} with {training.optimizer.name}", training.precision.name]
    if training.checkpointing != "none":
        parts.append(f"{'' if training.checkpointing == 'full' else 'selective '}gradient checkpointing")
    if training.accumulation > 1:
        parts.append(f"{training.accumulation} micro-batches per step")
    if plan.gpus > 1:
        kind = ", FSDP" if training.fsdp else f", ZeRO-{training.zero}" if training.zero else ""
        parts.append(f"{plan.gpus} GPUs ({plan.describe()}{kind})")
    return ", ".join(parts)


def _adapted(method: str, words: str, lora: Lora) -> str:
    """The adapters in words."""
    other, base = lora.method, " on a 4-bit base" if method == "qlora" else ""
    if other is None:
        return f"{words} (rank {lora.rank}, {','.join(lora.targets)})"
    if other.kind != "modules":
        return f"{other.title} ({lora.tokens} tokens){base}"
    rank = f"rank {lora.rank}, " if lora.rank else ""
    return f"{other.title} ({rank}{','.join(lora.targets)}){base}"


def software(scenario: Scenario) -> str:
    """The name of the training software."""
    return scenario.training.stack.name if isinstance(scenario, TrainingScenario) else scenario.runtime


def scenario_fields(scenario: Scenario) -> dict[str, Any]:
    """The fields for training in JSON's `scenario`; empty for the textbook method."""
    if not isinstance(scenario, TrainingScenario):
        return {}
    training = scenario.training
    lora = training.lora
    return {
        "precision": training.precision.name,
        "stack": training.stack.name,
        "gradient_checkpointing": training.checkpointing == "full",
        "checkpointing": training.checkpointing,
        "gradient_accumulation": training.accumulation,
        "fused_loss": training.fused_loss,
        "head": training.head,
        "peft": (lora.method.name if lora.method else "lora") if lora else None,
        "virtual_tokens": (lora.tokens or None) if lora else None,
        "lora_rank": lora.rank if lora else None,
        "lora_targets": list(lora.targets) if lora else None,
        "lora_dropout": lora.dropout if lora else None,
        "lora_dtype": lora.dtype if lora else None,
        "double_quant": training.double_quant,
        "zero": training.zero,
        "fsdp": training.fsdp,
        "offload": training.offload,
        "batching": training.batching,
        **_trainer_fields(training.tuning),
    }


def _trainer_fields(tuning: Tuning | None) -> dict[str, Any]:
    """The settings of a trainer of TRL; empty without one."""
    if tuning is None:
        return {}
    return {
        "trainer": tuning.trainer.name,
        "loss_type": tuning.loss or None,
        "beta": tuning.beta if tuning.trainer.reference != "never" else None,
        "reference_model": tuning.reference,
        "num_generations": tuning.generations or None,
        "max_completion_length": tuning.completion,
        "vllm_mode": tuning.vllm,
    }


def help_rows(savings: Sequence[Saving]) -> list[dict[str, Any]] | None:
    """JSON's `help`: options that reduce memory."""
    return [
        {"option": row.option, "what": row.what, "total": row.total, "fits": row.fits, "tight": row.tight}
        for row in savings
    ] or None


def plan_rows(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """JSON's `plans`: how far training goes in several ways."""
    return [
        {
            "option": plan.option,
            "method": plan.method,
            "gradient_checkpointing": plan.checkpointing,
            "batch": plan.batch,
            "seq": plan.seq,
            "total": plan.total,
            "usable": plan.usable,
            "max_batch": plan.max_batch,
            "max_seq": plan.max_seq,
            "max_lora_rank": plan.max_rank,
            "gpus_needed": plan.gpus,
            "best": plan.best,
        }
        for plan in plans
    ]


def _plan_lines(report: Report, unit: str) -> list[str]:
    """A table of how far training goes in each way, and a sentence on the best."""
    if not report.plans:
        return []
    rows = [["", "micro-batch", "tokens", "rank", "GPUs"]]
    for plan in report.plans:
        numbers = (plan.max_batch, plan.max_seq, plan.max_rank, plan.gpus)
        rows.append([f"{_way(plan)}  ", *("-" if number is None else f"{number:,}" for number in numbers)])
    name = next(fit.gpu.name for fit in report.fits if fit.machine.there)
    text = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=("left", *["right"] * 4))
    lines = ["", f"at most on {name} (GPUs: at least, sharded)", *(f"  {line.rstrip()}" for line in text.splitlines())]
    best = next((plan for plan in report.plans if plan.best), None)
    if best is None:
        return lines
    size = f"{format_bytes(best.total, unit, label=False)} of {format_bytes(best.usable, unit)}"
    option = f" ({best.option})" if best.option else ""
    return [*lines, f"  best: {_way(best)}, batch {best.batch:,}, {best.seq:,} tokens, {size}{option}"]


def _way(plan: Plan) -> str:
    words = {"full": "full", "lora": "LoRA", "qlora": "QLoRA"}[plan.method]
    if plan.adapters:
        words = plan.adapters if plan.method == "lora" else f"{plan.adapters} on a 4-bit base"
    return f"{words} with gradient checkpointing" if plan.checkpointing else words


def training_fields(estimate: Estimate) -> dict[str, Any] | None:
    """JSON's `training`: facts without another place in the schema."""
    facts = estimate.training
    if facts is None:
        return None
    low, high = facts.reserved
    return {
        "trainable_parameters": facts.trainable,
        "allocated": facts.allocated,
        "steady": facts.steady,
        "gradients": facts.gradients,
        "reserved": {"low": low, "high": high, "source": facts.reserved_source},
        "host": facts.host,
    }


def to_lines(report: Report, unit: str) -> list[str]:
    """The lines of the card: phases with the peak marked, GPUs, allocated and reserved memory."""
    estimate = report.estimate
    facts = estimate.training
    if facts is None:
        return []
    lines = ["phases (each includes resident memory; the largest is the peak)"]
    lines += _table(
        [
            [f"  {phase.name}", format_bytes(phase.total, unit), "peak" if phase.name == estimate.peak_phase else ""]
            for phase in estimate.phases
        ]
    )
    if len(estimate.ranks) > 1:
        lines += ["", "GPUs"]
        lines += _table([[_numbers(rank), format_bytes(rank.total, unit), "each"] for rank in estimate.ranks])
    low, high = facts.reserved
    lines += [
        "",
        f"{facts.trainable:,} trainable parameters",
        f"allocated {format_bytes(facts.allocated, unit)} at the peak, {format_bytes(facts.steady, unit)} between"
        f" steps; nvidia-smi {format_bytes(low, unit, label=False)} to {format_bytes(high, unit)}",
    ]
    if facts.host:
        lines.append(f"host memory: {format_bytes(facts.host, unit)} per GPU, plus half as much for buffers")
    lines += _plan_lines(report, unit)
    return lines


def _numbers(rank: Rank) -> str:
    """The numbers of GPUs, with consecutive ones as a range."""
    first, last = rank.ranks[0], rank.ranks[-1]
    return f"{first}" if first == last else f"{first} to {last}"


def _table(rows: list[list[str]]) -> list[str]:
    aligned = ("left", "right", "left") if len(rows[0]) == 3 else None
    text = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=aligned)
    return [f"  {line.strip()}" for line in text.splitlines()]
