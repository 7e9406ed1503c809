"""The meaning of keys in training files: transformers' `TrainingArguments`, trl, accelerate, DeepSpeed, axolotl,
LLaMA-Factory (hiyouga/LLaMA-Factory, src/llamafactory/hparams)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from hfmem.dtypes import canonical
from hfmem.options.option import Declared, split

__all__ = ["METHODS", "OWN_AUTO", "Draft", "Use", "meanings"]


class Draft(dict[str, Any]):
    """The settings made by keys so far: options, and further words that only have a meaning in combination (`settle`).

    Attributes:
        wrote: names written since this set was last cleared, including values that were already set.
        off: switches left off since then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wrote: dict[str, Any] = {}
        self.off: set[str] = set()

    def __setitem__(self, name: str, value: Any) -> None:
        self.wrote[name] = value
        super().__setitem__(name, value)

    def suggest(self, name: str, value: Any) -> None:
        """Set a name unless it is already set."""
        if name not in self:
            self[name] = value


Use = Callable[[Draft, Any], bool]
"""Applies the value of a key to a draft; returns whether the value is understood."""

METHODS: Final = (
    *("adapter", "adapter_type", "finetune_type", "finetuning_type", "peft_config.name", "peft_method", "peft_type"),
    *("sft_type", "train_type", "training_type", "tuner", "tuner_type", "tuning_method"),
)
"""Keys for the training method: those of axolotl, LLaMA-Factory and ms-swift, and similar ones."""

OWN_AUTO: Final = frozenset(("bf16", "fp16", "dtype", "torch_dtype", "flash_attn"))
"""Keys for which `auto` is a value of its own; for others it means the trainer's value (transformers'
integrations/deepspeed.py, `fill_match`)."""


def meanings(options: Iterable[Declared]) -> dict[str, Use]:
    """The effect of each key: the `keys` declared by options, and those with more than one effect."""
    return {key: _plain(option) for option in options for key in option.option.keys} | _KEYS


def _plain(option: Declared) -> Use:
    """A key that sets one option."""
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
    """`bf16` and `fp16` of the trainers; axolotl's `auto` means it if the GPU supports it, `full` also for weights."""

    def use(draft: Draft, value: Any) -> bool:
        if value == "full":
            return _word("precision")(draft, kind)
        if value is False and kind == "bf16":
            draft["unmixed"] = True
            return True
        return _switch("precision", f"trainer-{kind}")(draft, True if value == "auto" else value)

    return use


def _recompute(draft: Draft, value: Any) -> bool:
    """Gradient checkpointing; axolotl's `offload`, `unsloth` and the like are variants of it."""
    if value is False:
        draft["no_recompute"] = True
        return True
    return _switch("gradient_checkpointing")(draft, bool(value) if isinstance(value, str) else value)


def _loss(draft: Draft, value: Any) -> bool:
    """TRL's `loss_type`: a name, or a list, of which one is understood."""
    names = value if isinstance(value, list) else [value]
    if len(names) == 1:
        draft["loss_type"] = str(names[0])
    return len(names) == 1


def _attention(draft: Draft, value: Any) -> bool:
    """transformers' `attn_implementation`."""
    word = next((word for word in ("flash", "sdpa", "eager") if word in str(value).replace("_", "-").split("-")), None)
    if word is None and "flash-attn" in str(value):  # a kernel of the Hub
        word = "flash"
    if word is not None:
        draft["attention"] = word
    return word is not None


def _flash(draft: Draft, value: Any) -> bool:
    """LLaMA-Factory's `flash_attn`; its `auto` leaves the choice to transformers."""
    word = {"disabled": "eager", "sdpa": "sdpa", "fa2": "flash", "fa3": "flash"}.get(value)
    if word is not None:
        draft["attention"] = word
    return word is not None or value == "auto"


def _dtype(draft: Draft, value: Any) -> bool:
    """The dtype that a model is loaded in; `auto` is the checkpoint's."""
    if value == "auto":
        draft["stored_dtype"] = True
        return True
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
    """A key that turns an option on; if off, it has no effect."""

    def use(draft: Draft, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        if value:
            draft[option] = setting
        elif setting is True:
            draft.off.add(option)
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
    word = {"AdamW": "adamw-fused", "Adam": "adamw-fused"}.get(value, str(value))
    if "own_optimizer" in draft:
        draft.wrote["optimizer"] = word
    else:
        draft["optimizer"] = word
    return True


def _own_optimizer(name: str) -> Use:
    """A switch of LLaMA-Factory that overrides `optim` (train/trainer_utils.py, `create_custom_optimizer`)."""

    def use(draft: Draft, value: Any) -> bool:
        if _switch("own_optimizer")(draft, value) and value:
            draft["optimizer"] = name
        return True

    return use


def _method(draft: Draft, value: Any) -> bool:
    """The training method, in the software's words."""
    word = str(value).lower()
    if word in ("lora", "qlora", "full"):
        draft["train"] = word
    return word in ("lora", "qlora", "full")


def _peft(draft: Draft, value: Any) -> bool:
    """trl's `use_peft`, without which its adapter keys have no effect."""
    draft["train"] = "lora" if value else "full"
    return True


def _rank(draft: Draft, value: Any) -> bool:
    draft.suggest("train", "lora")
    return _number("lora_rank")(draft, value)


def _targets(draft: Draft, value: Any) -> bool:
    """LLaMA-Factory's LoRA targets; `all` means all linear modules."""
    return _names("lora_targets")(draft, "all-linear" if value in ("all", ["all"]) else value)


def _bits(draft: Draft, value: Any) -> bool:
    """LLaMA-Factory's `quantization_bit`, with bitsandbytes unless `quantization_method` says otherwise."""
    if value in (4, 8):
        draft["four_bit" if value == 4 else "eight_bit"] = True
    return value in (4, 8)


def _quantiser(draft: Draft, value: Any) -> bool:
    """LLaMA-Factory's `quantization_method`; only bitsandbytes is supported."""
    draft["quantiser"] = str(value)
    return value in ("bnb", "bitsandbytes")


def _no_recompute(draft: Draft, value: Any) -> bool:
    """LLaMA-Factory's `disable_gradient_checkpointing`."""
    if not isinstance(value, bool):
        raise TypeError
    draft["gradient_checkpointing"] = not value
    return True


def _frozen(part: str) -> Use:
    """A key that freezes a component."""

    def use(draft: Draft, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        if value:
            draft["freeze"] = tuple(dict.fromkeys((*draft.get("freeze", ()), part)))
        return True

    return use


def _as_counted(*words: str) -> Use:
    """A key that does not change the estimate for some values, and is not understood for others."""
    return lambda _, value: value in words


def _enabled(kind: str) -> Use:
    """DeepSpeed's `bf16` and `fp16`: 16-bit weights with float32 master weights."""

    def use(draft: Draft, value: Any) -> bool:
        if _switch("master")(draft, value) and value:
            draft["precision"] = f"trainer-{kind}"
        return True

    return use


def _precision(draft: Draft, value: Any) -> bool:
    if value in ("bf16", "fp16"):
        draft["precision"] = f"trainer-{value}"
    return value in ("bf16", "fp16", "no", False)  # YAML reads an unquoted `no` as false


def _fsdp(draft: Draft, value: Any) -> bool:
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else ["full"] * bool(value)
    if words:
        draft["fsdp"] = True
    if "offload" in words:
        draft["offload"] = "parameters"
    for word in words:
        _strategy(draft, word)
    return bool(words)


def _evaluates(draft: Draft, value: Any) -> bool:
    """When the Trainer evaluates; YAML reads `no` as false."""
    draft["evaluates"] = value not in ("no", False)
    return value in ("no", False, "steps", "epoch")


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
    """A key with a size, for which 1 has no effect."""

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
    "loss_type": _loss,
    "use_vllm": _switch("use_vllm"),
    "vllm_mode": _word("vllm_mode"),
    "per_gpu_train_batch_size": _number("batch"),
    "eval_strategy": _evaluates,
    "evaluation_strategy": _evaluates,
    "bf16.enabled": _enabled("bf16"),
    "fp16.enabled": _enabled("fp16"),
    "mixed_precision": _precision,
    "optim": _optimizer,
    "optimizer": _optimizer,
    "optimizer.type": _optimizer,
    "optim_args": _optimizer_arguments,
    **dict.fromkeys(METHODS, _method),
    "use_peft": _peft,
    "lora_r": _rank,
    "lora_rank": _rank,
    "peft_config.r": _rank,
    "lora_target": _targets,
    "peft_config.target_modules": _targets,
    "lora_target_linear": _switch("lora_targets", ("all-linear",)),
    "load_in_4bit": _switch("four_bit"),
    "load_in_8bit": _switch("eight_bit"),
    "quantization_bit": _bits,
    "quantization_method": _quantiser,
    "pure_bf16": _switch("pure"),
    "disable_gradient_checkpointing": _no_recompute,
    "flash_attn": _flash,
    "stage": _as_counted("pt", "sft"),
    "freeze_vision_tower": _frozen("vision"),
    "freeze_multi_modal_projector": _frozen("projector"),
    "use_galore": _own_optimizer("galore"),
    "use_apollo": _own_optimizer("apollo"),
    "use_muon": _own_optimizer("muon"),
    "use_adam_mini": _own_optimizer("adam-mini"),
    "galore_rank": _number("optimizer_rank"),
    "apollo_rank": _number("optimizer_rank"),
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
"""Keys that set several options, or depend on other keys; simple keys are declared with the options (`keys`)."""
