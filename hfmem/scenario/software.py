"""The software that a training file belongs to, recognised by its keys, and the defaults of that software."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Default", "Software", "inside_deepspeed", "is_deepspeed", "software_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Default:
    """A default for a key missing from a file.

    Attributes:
        option, value: the option that it sets.
        key, shown: the key and its default, in the software's words.
    """

    option: str
    value: Any
    key: str
    shown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """Software that trains with transformers' `Trainer`.

    Attributes:
        title: its name in sentences.
        marks: keys that only it has.
        defaults: its defaults.
        trainer: the trainer of TRL that it is; "" for others.
        upcasts: whether it casts trained parameters to float32 first.
        optimizer_rank: the rank of low-rank optimizers; 0 for the optimizer's default.
        source: where this is documented.
    """

    title: str
    marks: frozenset[str]
    defaults: tuple[Default, ...]
    trainer: str = ""
    upcasts: bool = False
    optimizer_rank: int = 0
    source: str


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TRAINING_ARGUMENTS: Final = _words("""
    accelerator_config activation_checkpointing activation_checkpointing_kwargs adafactor adam_beta1 adam_beta2
    adam_epsilon auto_find_batch_size average_tokens_across_devices batch_eval_metrics bf16 bf16_full_eval data_seed
    dataloader_drop_last dataloader_in_order dataloader_multiprocessing_context dataloader_num_workers
    dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor ddp_backend ddp_broadcast_buffers
    ddp_bucket_cap_mb ddp_find_unused_parameters ddp_static_graph ddp_timeout debug deepspeed disable_tqdm do_eval
    do_predict do_train enable_jit_checkpoint eval_accumulation_steps eval_delay eval_do_concat_batches eval_on_start
    eval_steps eval_strategy eval_use_gather_object fp16 fp16_backend fp16_full_eval fp16_opt_level fsdp fsdp_config
    fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap full_determinism generation_config generation_max_length
    generation_num_beams gradient_accumulation_steps gradient_checkpointing gradient_checkpointing_kwargs
    greater_is_better group_by_length half_precision_backend hub_always_push hub_model_id hub_private_repo hub_revision
    hub_strategy hub_token ignore_data_skip include_for_metrics include_inputs_for_metrics
    include_num_input_tokens_seen include_tokens_per_second jit_mode_eval label_names label_smoothing_factor
    learning_rate length_column_name liger_kernel_config load_best_model_at_end local_rank log_level log_level_replica
    log_on_each_node logging_dir logging_first_step logging_nan_inf_filter logging_steps logging_strategy
    lr_scheduler_kwargs lr_scheduler_type max_grad_norm max_steps metric_for_best_model mp_parameters
    neftune_noise_alpha no_cuda num_train_epochs optim optim_args optim_target_modules output_dir overwrite_output_dir
    parallelism_config past_index per_device_eval_batch_size per_device_train_batch_size per_gpu_eval_batch_size
    per_gpu_train_batch_size predict_with_generate prediction_loss_only project push_to_hub push_to_hub_model_id
    push_to_hub_organization push_to_hub_token ray_scope remove_unused_columns report_to
    restore_callback_states_from_checkpoint resume_from_checkpoint run_name save_on_each_node save_only_model
    save_safetensors save_steps save_strategy save_total_limit seed skip_memory_metrics sortish_sampler tf32
    torch_compile torch_compile_backend torch_compile_mode torch_empty_cache_steps torchdynamo tp_size
    tpu_metrics_debug tpu_num_cores trackio_bucket_id trackio_space_id trackio_static_space_id
    train_sampling_strategy use_cache use_cpu use_ipex use_legacy_prediction_loop use_liger_kernel use_mps_device
    warmup_ratio warmup_steps weight_decay
    """)
"""The fields of `TrainingArguments` and `Seq2SeqTrainingArguments` (training_args.py and training_args_seq2seq.py of
transformers 5.24.0, and additional ones of 4.51.3)."""

_TRL: Final = _words("use_peft max_seq_length dataset_text_field model_name_or_path lora_r")
"""Keys of trl's `SFTConfig`, `ModelConfig` and `ScriptArguments`, which it reads in addition to `TrainingArguments`."""

_DEEPSPEED: Final = _words(
    "zero_optimization. bf16. fp16. optimizer. scheduler. tensor_parallel. train_batch_size "
    "train_micro_batch_size_per_gpu gradient_clipping prescale_gradients wall_clock_breakdown steps_per_print "
    "zero_allow_untested_optimizer zero_force_ds_cpu_optimizer communication_data_type comms_logger. "
    "flops_profiler. aio. data_types. amp."
)
"""Top-level keys that only DeepSpeed's files have (deepspeed.ai/docs/config-json); with a dot, sections."""

_ACCELERATE: Final = _words(
    "compute_environment distributed_type mixed_precision num_processes machine_rank num_machines gpu_ids "
    "main_process_ip main_process_port rdzv_backend same_network main_training_function enable_cpu_affinity "
    "fp8_config. deepspeed_config. megatron_lm_config. mpirun_config. downcast_bf16 tpu_use_cluster tpu_use_sudo "
    "tpu_env dynamo_config."
)
"""Keys that only accelerate's files have (commands/config/config_args.py of accelerate 1.15.0)."""

_SHARED: Final = _words(
    "gradient_accumulation_steps fsdp_config fsdp_config. parallelism_config parallelism_config. debug use_cpu bf16. "
    "fp16. activation_checkpointing activation_checkpointing."
)
"""Keys of `TrainingArguments` that DeepSpeed or accelerate have too."""

_OPTIM: Final = Default(
    option="optimizer", value="adamw-fused", key="optim", shown="adamw_torch_fused (PyTorch 2.8 or newer)"
)
_BATCH: Final = Default(option="batch", value=8, key="per_device_train_batch_size", shown="8")

_TRAINERS: Final = {
    "sft": ("SFTConfig", "assistant_only_loss completion_only_loss eval_packing packing packing_strategy"),
    "dpo": (
        "DPOConfig",
        "discopop_tau f_alpha_divergence_coef f_divergence_type label_smoothing ld_alpha loss_weights use_weighting",
    ),
    "kto": ("KTOConfig", "desirable_weight undesirable_weight"),
    "rloo": ("RLOOConfig", "normalize_advantages reward_clip_range"),
    "reward": ("RewardConfig", "center_rewards_coefficient"),
    "grpo": (
        "GRPOConfig",
        "num_generations max_completion_length num_iterations scale_rewards delta importance_sampling_level "
        "mask_truncated_completions steps_per_generation",
    ),
}
"""Fields that only one configuration has; GRPO's that RLOO has too are GRPO's without a mark of RLOO."""

_SOFTWARE: Final = (
    Software(
        title="LLaMA-Factory",
        marks=_words(
            "finetuning_type lora_target pure_bf16 enable_liger_kernel disable_gradient_checkpointing "
            "additional_target double_quantization freeze_trainable_layers dataset_dir"
        ),
        defaults=(
            Default(option="train", value="lora", key="finetuning_type", shown="lora"),
            Default(option="lora_targets", value=("all-linear",), key="lora_target", shown="all"),
            Default(option="seq", value=2048, key="cutoff_len", shown="2048"),
            Default(option="gradient_checkpointing", value=True, key="disable_gradient_checkpointing", shown="false"),
            Default(option="double_quant", value=True, key="double_quantization", shown="true"),
            _OPTIM,
            _BATCH,
        ),
        upcasts=True,
        optimizer_rank=16,
        source="hiyouga/LLaMA-Factory at ff6d4d12: src/llamafactory/hparams, model/adapter.py (`init_adapter`), "
        "model/model_utils/checkpointing.py",
    ),
    Software(
        title="axolotl",
        marks=_words(
            "base_model sequence_len lora_target_linear lora_modules_to_save micro_batch_size adapter flash_attention "
            "sdp_attention eager_attention xformers_attention sample_packing pad_to_sequence_len val_set_size "
            "dataset_prepared_path"
        ),
        defaults=(Default(option="optimizer", value="adamw-fused", key="optimizer", shown="adamw_torch_fused"),),
        source="axolotl-ai-cloud/axolotl, src/axolotl/utils/schemas/training.py",
    ),
    *(
        Software(
            title=f"TRL's {title}",
            marks=_words(marks),
            defaults=(_BATCH,),
            trainer=trainer,
            source=f"fields that only this configuration of trl 1.16.0 has: trainer/{trainer}_config.py",
        )
        for trainer, (title, marks) in _TRAINERS.items()
    ),
    Software(
        title="TrainingArguments",
        marks=_TRAINING_ARGUMENTS - _SHARED | _TRL,
        defaults=(_OPTIM, _BATCH),
        source="transformers 5.24.0, training_args.py",
    ),
)
"""A file belongs to the first software of which it has a mark."""


def software_of(files: Mapping[str, Iterable[str]]) -> tuple[Software | None, str]:
    """The software that these files belong to (key names by file), and the file that shows it. None if there are only
    files of DeepSpeed or accelerate, which are used with any software."""
    roots = {file: _roots(names) for file, names in files.items()}
    for software in _SOFTWARE:
        for file, keys in roots.items():
            if software.marks & {key.rstrip(".") for key in keys - _SHARED - _DEEPSPEED}:
                return software, file
    for (
        file,
        keys,
    ) in roots.items():  # shared keys count as the trainer's if the file has no keys of DeepSpeed or accelerate
        if keys & _SHARED and not keys & (_DEEPSPEED | _ACCELERATE):
            return _SOFTWARE[-1], file
    return None, ""


def is_deepspeed(names: Iterable[str]) -> bool:
    """Whether a file with these keys is DeepSpeed's: it has some of DeepSpeed's own keys, and none of a trainer."""
    keys = _roots(names)
    marks = frozenset().union(*(software.marks for software in _SOFTWARE))
    return bool(keys & _DEEPSPEED) and not marks & {key.rstrip(".") for key in keys - _SHARED - _DEEPSPEED}


def inside_deepspeed(name: str) -> bool:
    """Whether a key is DeepSpeed's in any file: it is in a section or file for DeepSpeed, or one of its own keys."""
    root = name.partition(".")[0]
    return root in ("deepspeed", "deepspeed_config") or bool(_roots((name,)) & _DEEPSPEED)


def _roots(names: Iterable[str]) -> set[str]:
    """The top-level keys of a file, sections with a trailing dot."""
    return {f"{root}." if dot else root for root, dot, _ in (name.partition(".") for name in names)}
