"""Options from the files that people train with: transformers' `TrainingArguments` (and trl's), accelerate, DeepSpeed,
axolotl; YAML or JSON. Every key is used, or named as ignored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hfmem.errors import InvalidScenarioError
from hfmem.estimator.recipe.optimizers import find_optimizer
from hfmem.fetcher.files import read_text
from hfmem.options.option import Declared, declared, split
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
    keys = _plain_keys(declared(type(options))) | _KEYS
    for name, value in _leaves(_read(path), path):
        (used if _use(name, value, draft, keys) else ignored).append(name)
    trainer = any(name.endswith(_TRAINER) for name in used) and "optimizer" not in draft
    if trainer:
        draft["optimizer"] = "adamw-fused"
    _settle(draft, options)
    table = {option.name: option for option in declared(type(options))}
    taken = {name: value for name, value in draft.items() if not table[name].asked(options)}
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
    for option in declared(type(options)):
        if option.option.train and train not in option.option.train:
            draft.pop(option.name, None)  # files keep what another method would take
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


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = read_text(path, _LARGEST)
    except OSError as error:
        raise InvalidScenarioError("", f"--from-args {path} cannot be read: {error.strerror}") from None
    document = _parse(text, path)
    if not isinstance(document, dict):
        raise InvalidScenarioError("", f"--from-args {path} holds no mapping of keys to values")
    return document


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass  # JSON is YAML but for tabs and numbers such as 1e8
    import yaml  # what huggingface_hub reads cards with; for these files only

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


def _plain_keys(options: Iterable[Declared]) -> dict[str, _Use]:
    """The keys that set one option each, as the declarations have them."""
    return {key: _plain(option) for option in options for key in option.option.keys}


def _plain(option: Declared) -> _Use:
    """How a key sets an option of its type."""
    if option.several:
        return _names(option.name)
    kinds: dict[type, Callable[[str], _Use]] = {bool: _switch, int: _number, float: _fraction, str: _word}
    return kinds[option.kind](option.name)


def _use(name: str, value: Any, draft: Draft, keys: Mapping[str, _Use]) -> bool:
    """Whether the key says something here; then it is taken."""
    if value is None or (value == "auto" and name != "bf16"):
        return False
    use = keys.get(name) or keys.get(name.rpartition("deepspeed.")[2]) or keys.get(name.rpartition(".")[2])
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


def _fraction(option: str) -> _Use:
    def use(draft: Draft, value: Any) -> bool:
        draft[option] = float(value)
        return True

    return use


def _switch(option: str, setting: Any = True) -> _Use:
    """An option that the key turns on; off it says nothing."""

    def use(draft: Draft, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        if value:
            draft[option] = setting
        return True

    return use


def _word(option: str) -> _Use:
    def use(draft: Draft, value: Any) -> bool:
        draft[option] = str(value)
        return True

    return use


def _names(option: str) -> _Use:
    def use(draft: Draft, value: Any) -> bool:
        draft[option] = split(value) if isinstance(value, str) else tuple(str(word).strip() for word in value)
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
    "bf16": _half,
    "fp16": _switch("precision", "trainer-fp16"),
    "bf16.enabled": _switch("precision", "bf16-master"),
    "fp16.enabled": _switch("precision", "fp16-master"),
    "mixed_precision": _precision,
    "optim": _optimizer,
    "optimizer": _optimizer,
    "optimizer.type": _optimizer,
    "optim_args": _optimizer_arguments,
    "adapter": _adapter,
    "use_peft": _peft,
    "lora_r": _rank,
    "lora_target_linear": _switch("lora_targets", ("all-linear",)),
    "load_in_4bit": _switch("four_bit"),
    "load_in_8bit": _switch("eight_bit"),
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
}
"""The keys that say more than one option, or only with others; the plain ones stand on the options (`keys`)."""
