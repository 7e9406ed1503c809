"""Options from the files that people train with: transformers' `TrainingArguments` (and trl's), accelerate, DeepSpeed,
axolotl; YAML or JSON. Every key is used, or named as ignored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from hfmem.errors import InvalidScenarioError
from hfmem.estimator.recipe.optimizers import find_optimizer
from hfmem.scenario.options import Options

__all__ = ["with_file"]

Draft = dict[str, Any]
_Use = Callable[[Draft, Any], bool]
_LARGEST: Final = 2**20  # bytes; a training file is a few kilobytes


def with_file(options: Options, path: Path) -> Options:
    """The options, with what the file says where they say nothing themselves.

    Raises:
        InvalidScenarioError: the file cannot be read, or a value in it cannot be.
    """
    draft: Draft = {}
    used: list[str] = []
    ignored: list[str] = []
    for name, value in _leaves(_read(path), path):
        (used if _use(name, value, draft) else ignored).append(name)
    trainer = any(name.endswith(_TRAINER) for name in used) and "optimizer" not in draft
    if trainer:
        draft["optimizer"] = "adamw-fused"
    _settle(draft, options)
    defaults = {field.name: field.default for field in fields(options)}
    taken = {name: value for name, value in draft.items() if getattr(options, name) == defaults[name]}
    remarks = [f"{path.name}: {', '.join(used)} are used."] if used else []
    remarks += [f"{path.name}: {', '.join(ignored)} are ignored."] if ignored else []
    if trainer and "optimizer" in taken:
        remarks.append(
            f"{path.name}: no optim, which is adamw_torch_fused for TrainingArguments and PyTorch 2.8 or newer."
        )
    return replace(options, **taken, remarks=(*options.remarks, *remarks))


_TRAINER: Final = "per_device_train_batch_size"
"""A key that only `TrainingArguments` have."""


def _settle(draft: Draft, options: Options) -> None:
    """What several keys mean together, and beside the command line, which wins."""
    four, eight = draft.pop("four_bit", False), draft.pop("eight_bit", False)
    if four and draft.get("train") == "lora":
        draft["train"] = "qlora"
    train = options.train or draft.setdefault("train", "full")
    if eight and train == "lora":
        draft["dtype"] = "int8"
    for name in _FOR_ADAPTERS if train == "full" else () if train == "qlora" else ("double_quant",):
        draft.pop(name, None)
    if draft.pop("deepspeed", False) and train == "full":
        # DeepSpeed's `"enabled": "auto"` follows the trainer's flag, and its weights are of 16 bits with others beside
        asked = draft.get("precision", "")
        if asked in ("trainer-bf16", "trainer-fp16"):
            draft["precision"] = f"{asked.removeprefix('trainer-')}-master"
    if draft.pop("unsharded", False):
        draft.pop("fsdp", None)
        draft.pop("offload", None)
    hosts, gpus = draft.pop("hosts", 1), draft.get("gpus", 1)
    if draft.pop("hybrid", False) and draft.get("fsdp") and hosts > 1 and gpus % hosts == 0:
        draft["shard"] = gpus // hosts
    row = find_optimizer(options.optimizer or draft.get("optimizer", ""))
    if row is not None and not row.rank:
        draft.pop("optimizer_rank", None)


_FOR_ADAPTERS: Final = ("lora_rank", "lora_targets", "lora_dropout", "dora", "modules_to_save", "double_quant")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise InvalidScenarioError("", f"--from-args {path} is larger than a training file can be")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InvalidScenarioError("", f"--from-args {path} cannot be read: {reason}") from None
    document = _parse(text, path)
    if not isinstance(document, dict):
        raise InvalidScenarioError("", f"--from-args {path} holds no mapping of keys to values")
    return document


def _parse(text: str, path: Path) -> Any:
    import yaml  # what huggingface_hub reads cards with; JSON is YAML but for tabs and numbers such as 1e8

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise InvalidScenarioError("", f"--from-args {path} is neither JSON nor YAML") from None


def _leaves(document: Mapping[str, Any], path: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every key with its value; inner mappings as `outer.inner`, and so a DeepSpeed file where it is named."""
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and depth < 3:
            yield from _leaves(value, path, f"{name}.", depth + 1)
        elif key in ("deepspeed", "deepspeed_config_file") and isinstance(value, str) and depth < 3:
            beside = path.parent / value
            inner = beside if beside.exists() else Path(value)
            yield from _leaves(_read(inner), inner, f"{name}.", depth + 1)
        else:
            yield name, value


def _use(name: str, value: Any, draft: Draft) -> bool:
    """Whether the key says something here; then it is taken."""
    if value is None or (value == "auto" and name != "bf16"):
        return False
    use = _KEYS.get(name) or _KEYS.get(name.rpartition("deepspeed.")[2]) or _KEYS.get(name.rpartition(".")[2])
    try:
        return use is not None and use(draft, value)
    except (TypeError, ValueError, AttributeError):
        raise InvalidScenarioError("", f"--from-args: '{name}' cannot be {str(value)[:60]!r}") from None


def _number(option: str) -> _Use:
    def use(draft: Draft, value: Any) -> bool:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError
        draft[option] = int(value)
        return True

    return use


def _stage(draft: Draft, value: Any) -> bool:
    draft["deepspeed"] = True
    return _number("zero")(draft, value)


def _half(draft: Draft, value: Any) -> bool:
    """`bf16` of the trainers; axolotl's `auto` means it where the card has it."""
    return _switch("precision", "trainer-bf16")(draft, True if value == "auto" else value)


def _optimizer_arguments(draft: Draft, value: Any) -> bool:
    """transformers' `optim_args`, as in `rank=64, update_proj_gap=100`: the rank of low-rank optimizers."""
    pairs = dict(part.strip().partition("=")[::2] for part in value.split(","))
    return "rank" in pairs and _number("optimizer_rank")(draft, pairs["rank"])


def _fraction(draft: Draft, value: Any) -> bool:
    draft["lora_dropout"] = float(value)
    return True


def _switch(option: str, setting: Any = True) -> _Use:
    """An option that the key turns on; off it says nothing."""

    def use(draft: Draft, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        if value:
            draft[option] = setting
        return True

    return use


def _names(option: str) -> _Use:
    def use(draft: Draft, value: Any) -> bool:
        words = value.split(",") if isinstance(value, str) else value
        draft[option] = tuple(str(word).strip() for word in words)
        return True

    return use


def _optimizer(draft: Draft, value: Any) -> bool:
    draft["optimizer"] = {"AdamW": "adamw-fused", "Adam": "adamw-fused"}.get(value, str(value))
    return True


def _adapter(draft: Draft, value: Any) -> bool:
    draft["train"] = {"lora": "lora", "qlora": "qlora"}[value] if value in ("lora", "qlora") else "full"
    return value in ("lora", "qlora")


def _peft(draft: Draft, value: Any) -> bool:
    if value:
        draft["train"] = "lora"
    return True


def _rank(draft: Draft, value: Any) -> bool:
    draft.setdefault("train", "lora")
    return _number("lora_rank")(draft, value)


def _precision(draft: Draft, value: Any) -> bool:
    if value in ("bf16", "fp16"):
        draft["precision"] = f"trainer-{value}"
    return value in ("bf16", "fp16", "no")


def _fsdp(draft: Draft, value: Any) -> bool:
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else ["full"] * bool(value)
    if words:
        draft["fsdp"] = True
    if "offload" in words:
        draft["offload"] = "parameters"
    for word in words:
        _strategy(draft, word)
    return bool(words)


def _strategy(draft: Draft, value: Any) -> bool:
    """FSDP's strategy, by name or by accelerate's number."""
    word = str(value).upper()
    if word in ("NO_SHARD", "3"):
        draft["unsharded"] = True
    elif word in ("HYBRID_SHARD", "4"):
        draft["hybrid"] = True
    return word in ("FULL_SHARD", "1", "NO_SHARD", "3", "HYBRID_SHARD", "4")


def _distributed(draft: Draft, value: Any) -> bool:
    if value == "FSDP":
        draft["fsdp"] = True
    return value in ("FSDP", "DEEPSPEED", "MULTI_GPU", "NO")


def _offload(what: str) -> _Use:
    def use(draft: Draft, value: Any) -> bool:
        if value in ("cpu", "nvme") and draft.get("offload") != "parameters":
            draft["offload"] = what
        return True

    return use


_KEYS: Final[dict[str, _Use]] = {
    "per_device_train_batch_size": _number("batch"),
    "micro_batch_size": _number("batch"),
    "train_micro_batch_size_per_gpu": _number("batch"),
    "gradient_accumulation_steps": _number("gradient_accumulation"),
    "max_length": _number("seq"),
    "max_seq_length": _number("seq"),
    "sequence_len": _number("seq"),
    "model_max_length": _number("seq"),
    "num_processes": _number("gpus"),
    "gradient_checkpointing": _switch("gradient_checkpointing"),
    "activation_checkpointing": _switch("gradient_checkpointing"),
    "fsdp_activation_checkpointing": _switch("gradient_checkpointing"),
    "bf16": _half,
    "fp16": _switch("precision", "trainer-fp16"),
    "bf16.enabled": _switch("precision", "bf16-master"),
    "fp16.enabled": _switch("precision", "fp16-master"),
    "mixed_precision": _precision,
    "use_liger_kernel": _switch("fused_loss"),
    "liger_fused_linear_cross_entropy": _switch("fused_loss"),
    "cut_cross_entropy": _switch("fused_loss"),
    "optim": _optimizer,
    "optimizer": _optimizer,
    "optimizer.type": _optimizer,
    "optim_args": _optimizer_arguments,
    "adapter": _adapter,
    "use_peft": _peft,
    "lora_r": _rank,
    "lora_dropout": _fraction,
    "lora_target_modules": _names("lora_targets"),
    "lora_target_linear": _switch("lora_targets", ("all-linear",)),
    "lora_modules_to_save": _names("modules_to_save"),
    "use_dora": _switch("dora"),
    "peft_use_dora": _switch("dora"),
    "load_in_4bit": _switch("four_bit"),
    "load_in_8bit": _switch("eight_bit"),
    "use_bnb_nested_quant": _switch("double_quant"),
    "bnb_4bit_use_double_quant": _switch("double_quant"),
    "fsdp": _fsdp,
    "fsdp_sharding_strategy": _strategy,
    "num_machines": _number("hosts"),
    "distributed_type": _distributed,
    "fsdp_offload_params": _switch("offload", "parameters"),
    "zero_stage": _stage,
    "zero_optimization.stage": _stage,
    "offload_optimizer_device": _offload("optimizer"),
    "zero_optimization.offload_optimizer.device": _offload("optimizer"),
    "offload_param_device": _offload("parameters"),
    "zero_optimization.offload_param.device": _offload("parameters"),
    "tensor_parallel_size": _number("tp"),
    "context_parallel_size": _number("cp"),
}
