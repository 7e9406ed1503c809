"""What the keys of training files mean: transformers' `TrainingArguments`, trl, accelerate, DeepSpeed, axolotl."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from hfmem.dtypes import canonical
from hfmem.options.option import Declared, split

__all__ = ["BESIDE", "Draft", "Use", "meanings"]

Draft = dict[str, Any]
Use = Callable[[Draft, Any], bool]
"""Takes what a value says; whether it says anything."""

BESIDE: Final = ("model", "revision", "four_bit", "eight_bit", "deepspeed", "unsharded", "hosts", "hybrid")
"""What a draft holds beside options, until everything is read."""


def meanings(options: Iterable[Declared]) -> dict[str, Use]:
    """What each key does: those that set one option, as the declarations have them, and those that say more."""
    return {key: _plain(option) for option in options for key in option.option.keys} | _KEYS


def _plain(option: Declared) -> Use:
    """How a key sets an option of its type."""
    if option.several:
        return _names(option.name)
    if option.kind is int:
        return _number(option.name, option.option.parse)
    kinds: dict[type, Callable[[str], Use]] = {bool: _switch, float: _fraction, str: _word}
    return kinds[option.kind](option.name)


def _number(option: str, parse: Callable[[str], Any] | None = None) -> Use:
    def use(draft: Draft, value: Any) -> bool:
        value = parse(value) if parse is not None and isinstance(value, str) else value
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError
        draft[option] = int(value)
        return True

    return use


def _stage(draft: Draft, value: Any) -> bool:
    draft["deepspeed"] = True
    return _number("zero")(draft, value)


def _half(kind: str) -> Use:
    """`bf16` and `fp16` of the trainers; axolotl's `auto` means it where the card has it, `full` weights of it."""

    def use(draft: Draft, value: Any) -> bool:
        if value == "full":
            return _word("precision")(draft, kind)
        return _switch("precision", f"trainer-{kind}")(draft, True if value == "auto" else value)

    return use


def _recompute(draft: Draft, value: Any) -> bool:
    """Gradient checkpointing; axolotl's words `offload`, `unsloth` and their like recompute too."""
    return _switch("gradient_checkpointing")(draft, bool(value) if isinstance(value, str) else value)


def _attention(draft: Draft, value: Any) -> bool:
    """transformers' `attn_implementation`."""
    word = next((word for word in ("flash", "sdpa", "eager") if word in str(value).replace("_", "-").split("-")), None)
    if word is None and "flash-attn" in str(value):  # a kernel of the Hub
        word = "flash"
    if word is not None:
        draft["attention"] = word
    return word is not None


def _dtype(draft: Draft, value: Any) -> bool:
    """The dtype that a model is loaded in."""
    word = canonical(str(value).removeprefix("torch."))
    if word in ("bfloat16", "float16", "float32"):
        draft["dtype"] = word
    return word in ("bfloat16", "float16", "float32")


def _optimizer_arguments(draft: Draft, value: Any) -> bool:
    """transformers' `optim_args`, as in `rank=64, update_proj_gap=100`: the rank of low-rank optimizers."""
    pairs = dict(part.strip().partition("=")[::2] for part in value.split(","))
    return "rank" in pairs and _number("optimizer_rank")(draft, pairs["rank"])


def _fraction(option: str) -> Use:
    def use(draft: Draft, value: Any) -> bool:
        draft[option] = float(value)
        return True

    return use


def _switch(option: str, setting: Any = True) -> Use:
    """An option that the key turns on; off it says nothing."""

    def use(draft: Draft, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        if value:
            draft[option] = setting
        return True

    return use


def _word(option: str) -> Use:
    def use(draft: Draft, value: Any) -> bool:
        if isinstance(value, list | dict):
            raise TypeError
        draft[option] = str(value)
        return True

    return use


def _names(option: str) -> Use:
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
    if value == "MEGATRON_LM":
        draft["stack"] = "megatron"
    return value in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "MULTI_GPU", "NO")


def _number_above_one(option: str) -> Use:
    """A size of which 1 says nothing."""

    def use(draft: Draft, value: Any) -> bool:
        return value in (1, -1) or _number(option)(draft, value)

    return use


def _offload(what: str) -> Use:
    def use(draft: Draft, value: Any) -> bool:
        if value in ("cpu", "nvme") and draft.get("offload") != "parameters":
            draft["offload"] = what
        return True

    return use


_KEYS: Final[dict[str, Use]] = {
    "base_model": _word("model"),
    "model_name_or_path": _word("model"),
    "model_name": _word("model"),
    "pretrained_model_name_or_path": _word("model"),
    "model_revision": _word("revision"),
    "revision_of_model": _word("revision"),
    "attn_implementation": _attention,
    "flash_attention": _switch("attention", "flash"),
    "sdp_attention": _switch("attention", "sdpa"),
    "eager_attention": _switch("attention", "eager"),
    "dtype": _dtype,
    "torch_dtype": _dtype,
    "bf16": _half("bf16"),
    "fp16": _half("fp16"),
    "bfloat16": _switch("precision", "bf16"),
    "float16": _switch("precision", "fp16"),
    "gradient_checkpointing": _recompute,
    "per_gpu_train_batch_size": _number("batch"),
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
    "fsdp_config.offload_params": _switch("offload", "parameters"),
    "parallelism_config_tp_size": _number_above_one("tp"),
    "parallelism_config_cp_size": _number_above_one("cp"),
    "parallelism_config_dp_shard_size": _number_above_one("shard"),
    "dp_shard_size": _number_above_one("shard"),
    "tensor_parallel.autotp_size": _number_above_one("tp"),
    "megatron_lm_tp_degree": _number_above_one("tp"),
    "megatron_lm_pp_degree": _number_above_one("pp"),
    "megatron_lm_sequence_parallelism": _switch("sequence_parallel"),
    "megatron_lm_recompute_activations": _switch("selective_checkpointing"),
    "megatron_lm_use_distributed_optimizer": _switch("zero", 1),
    "zero_stage": _stage,
    "zero_optimization.stage": _stage,
    "offload_optimizer_device": _offload("optimizer"),
    "zero_optimization.offload_optimizer.device": _offload("optimizer"),
    "zero_optimization.cpu_offload": _switch("offload", "optimizer"),
    "offload_param_device": _offload("parameters"),
    "zero_optimization.offload_param.device": _offload("parameters"),
}
"""The keys that say more than one option, or only with others; the plain ones stand on the options (`keys`)."""
