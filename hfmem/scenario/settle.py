"""Combinations of keys in training files, and their precedence: the command line overrides them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from hfmem.estimator.recipe.optimizers import find_optimizer
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.options.option import declared
from hfmem.options.words import OBJECTIVES
from hfmem.scenario.keys import Draft
from hfmem.scenario.options import Options
from hfmem.scenario.software import Default, Software

__all__ = ["Settled", "settle"]


@dataclass(slots=True, kw_only=True)
class Settled:
    """The outcome for the names in a draft that are not options.

    Attributes:
        worked: names with an effect.
        gave: names overridden by the command line.
        assumed: whether the training method is an assumption, as no key states it.
        defaults: applied defaults of the software.
    """

    worked: set[str] = field(default_factory=lambda: {"model", "revision"})
    gave: set[str] = field(default_factory=set)
    assumed: bool = False
    defaults: tuple[Default, ...] = ()

    def note(self, name: str, *, worked: bool, gave: bool) -> None:
        """Record the outcome of a name."""
        if gave:
            self.gave.add(name)
        elif worked:
            self.worked.add(name)


def settle(
    draft: Draft, options: Options, asked: Collection[str], software: Software | None, keys: Collection[str]
) -> Settled:
    """Reduce a draft to options. Defaults of the software apply if neither their own key (among `keys`) nor another one
    sets the option; `asked` are the options of the command line."""
    settled = Settled()
    draft.pop("own_optimizer", None)  # its effect, the optimizer, is already set
    possible = software.defaults if software is not None else ()
    defaults = [default for default in possible if default.option not in draft and default.key not in keys]
    for default in defaults:
        draft[default.option] = default.value
    settled.assumed = options.train is None and "train" not in draft
    draft.suggest("train", "full")
    _base(draft, options, asked, settled)
    method = _told(options) or draft["train"]
    trainer = _trainer(draft, options, software, method)
    _of_trainer(draft, asked, settled, trainer)
    _evaluation(draft, asked, settled, trainer)
    for option in declared(type(options)):
        if option.option.train and not {trainer or method, method} & {*option.option.train}:
            draft.pop(option.name, None)  # files often keep keys of another training method
    _precision(draft, method, settled, software if "dtype" not in asked else None)
    _sharding(draft, options, settled)
    _drop(draft, options, software)
    settled.defaults = tuple(default for default in defaults if default.option in draft and default.option not in asked)
    return settled


def _told(options: Options) -> str | None:
    """The method of the command line: what is trained."""
    return options.train_method if options.train in OBJECTIVES else options.train


def _trainer(draft: Draft, options: Options, software: Software | None, method: str) -> str:
    """The trainer of TRL, of the command line or of the files; "" for none."""
    trainer: str = (options.train or "") if options.train in OBJECTIVES else ""
    if options.train is None and software is not None:
        trainer = software.trainer
    if trainer:
        draft["train"], draft["train_method"] = trainer, method
    return trainer


def _of_trainer(draft: Draft, asked: Collection[str], settled: Settled, trainer: str) -> None:
    """Keys with another meaning, or another default, in trainers of TRL."""
    if draft.pop("no_recompute", False):
        settled.note("no_recompute", worked=True, gave="gradient_checkpointing" in asked)
        if trainer:
            draft["gradient_checkpointing"] = False
    if draft.pop("unmixed", False):
        settled.note("unmixed", worked=True, gave="precision" in asked)
        if trainer:  # whose default is bf16
            draft.suggest("precision", "trainer-no")
    uses = draft.pop("use_vllm", False)
    settled.note("use_vllm", worked=trainer in ("grpo", "rloo"), gave="vllm_mode" in asked)
    if uses:
        draft.suggest("vllm_mode", "colocate")
    else:
        for name in ("vllm_mode", "vllm_gpu_memory_utilization", "vllm_enable_sleep_mode"):
            draft.pop(name, None)
    if draft.get("vllm_mode") == "server":
        draft.pop("vllm_gpu_memory_utilization", None)
        draft.pop("vllm_enable_sleep_mode", None)


_EVALUATION: Final = ("eval_batch_size", "eval_accumulation_steps")
_EVAL_BATCH: Final = 8  # of TrainingArguments (transformers 5.24, training_args.py:1128)


def _evaluation(draft: Draft, asked: Collection[str], settled: Settled, trainer: str) -> None:
    """The evaluation between steps: files have its sizes also where there is none. TRL's trainers have their own."""
    evaluates = draft.pop("evaluates", False) and not trainer
    settled.note("evaluates", worked=not trainer, gave="eval_batch_size" in asked)
    if evaluates:
        draft.suggest("eval_batch_size", _EVAL_BATCH)
        return
    for name in _EVALUATION:
        draft.pop(name, None)
        settled.note(name, worked=True, gave=name in asked)


def _base(draft: Draft, options: Options, asked: Collection[str], settled: Settled) -> None:
    """The base weights under adapters."""
    four, eight = draft.pop("four_bit", False), draft.pop("eight_bit", False)
    if draft.pop("quantiser", "bnb") not in ("bnb", "bitsandbytes"):
        return  # bitsandbytes does not support this number of bits
    settled.worked.add("quantiser")
    if four and draft["train"] == "lora":
        draft["train"] = "qlora"
    told = _told(options)
    train = told or draft["train"]
    settled.note("four_bit", worked=train == "qlora", gave=told in ("full", "lora"))
    if eight and train == "lora":
        draft["dtype"] = "int8"
    settled.note("eight_bit", worked=train == "lora", gave="dtype" in asked or told in ("full", "qlora"))


def _precision(draft: Draft, train: str, settled: Settled, software: Software | None) -> None:
    """The number formats; `software` is None if the command line sets the dtype of weights."""
    deepspeed, master, pure = (draft.pop(name, False) for name in ("deepspeed", "master", "pure"))
    said = draft.get("precision", "")
    half = said.removeprefix("trainer-")
    if said in ("trainer-bf16", "trainer-fp16") and (master or (deepspeed and train == "full")):
        # DeepSpeed's `"enabled": "auto"` follows the trainer's flag; it has 16-bit weights with master weights
        draft["precision"] = f"{half}-master"
    elif pure:
        settled.worked.add("pure")
        draft.suggest("precision", "bf16")
    elif software is not None and software.upcasts and train == "full" and not deepspeed:
        draft["precision"] = f"autocast-{half}" if said.startswith("trainer-") else said or "fp32"
    if draft.get("fsdp"):  # without a key for it, neither accelerate nor the Trainer has mixed precision
        draft.suggest("precision", "trainer-no")


def _sharding(draft: Draft, options: Options, settled: Settled) -> None:
    """Options for FSDP's sharding strategies."""
    if draft.pop("unsharded", False):
        draft.pop("fsdp", None)
        draft.pop("offload", None)
        settled.note("unsharded", worked=True, gave=options.fsdp)
    hosts, gpus = draft.pop("hosts", 1), draft.get("gpus", 1)
    hybrid = draft.pop("hybrid", False) and bool(draft.get("fsdp"))
    if hybrid and hosts > 1 and gpus % hosts == 0:
        draft["shard"] = gpus // hosts
        settled.note("hosts", worked=True, gave=options.shard is not None)
    settled.note("hybrid", worked=hybrid, gave=options.shard is not None)


def _drop(draft: Draft, options: Options, software: Software | None) -> None:
    """Remove settings from files that have no effect in combination with the rest."""
    if not (draft.get("fsdp") or draft.get("zero") or options.fsdp or options.zero):
        draft.pop("shard", None)
    if draft.get("tp", options.tp or 1) == 1:
        draft.pop("sequence_parallel", None)
    if draft.get("gradient_checkpointing"):
        draft.pop("selective_checkpointing", None)
    plain = find_quantiser(draft.get("dtype", "")) is None
    if plain and not (options.precision or draft.get("precision", "trainer-")).startswith("trainer-"):
        draft.pop("dtype", None)  # the precision determines the dtype of weights
    row = find_optimizer(options.optimizer or draft.get("optimizer", ""))
    if row is not None and not row.rank:
        draft.pop("optimizer_rank", None)
    elif row is not None and software is not None and software.optimizer_rank:
        draft.suggest("optimizer_rank", software.optimizer_rank)
