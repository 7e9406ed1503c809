"""Options from training files: each key is used or named as ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfmem import Options
from hfmem.errors import InvalidScenarioError
from hfmem.scenario.check import check
from hfmem.scenario.files import with_file, with_files
from tests.estimator.training_files import written

TRAINER = """\
per_device_train_batch_size: 4
gradient_accumulation_steps: 8
gradient_checkpointing: true
bf16: true
optim: adamw_torch_fused
max_length: 2048
use_liger_kernel: true
learning_rate: 2.0e-5
output_dir: out
deepspeed: ds.json
"""
DEEPSPEED = """\
{"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}, "overlap_comm": true},
 "bf16": {"enabled": true}, "train_micro_batch_size_per_gpu": "auto"}
"""
ACCELERATE = """\
distributed_type: FSDP
num_processes: 8
mixed_precision: bf16
fsdp_config:
  fsdp_sharding_strategy: FULL_SHARD
  fsdp_offload_params: false
  fsdp_activation_checkpointing: true
"""
AXOLOTL = """\
base_model: meta-llama/Llama-2-7b-hf
adapter: qlora
load_in_4bit: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
micro_batch_size: 2
sequence_len: 4096
optimizer: paged_adamw_32bit
bf16: auto
gradient_checkpointing: true
"""


def test_training_arguments_with_deepspeed(tmp_path: Path) -> None:
    written(tmp_path, DEEPSPEED, "ds.json")
    options = with_file(Options(), written(tmp_path, TRAINER))
    check(options)
    assert (options.train, options.batch, options.gradient_accumulation, options.seq) == ("full", 4, 8, 2048)
    assert (options.zero, options.offload, options.precision) == (3, "optimizer", "bf16-master")
    assert options.gradient_checkpointing
    assert options.fused_loss
    assert options.optimizer == "adamw_torch_fused"
    ignored = options.remarks[-1]
    assert all(key in ignored for key in ("learning_rate", "output_dir", "deepspeed.zero_optimization.overlap_comm"))


def test_accelerate(tmp_path: Path) -> None:
    options = with_file(Options(), written(tmp_path, ACCELERATE))
    check(options)
    assert (options.fsdp, options.gpus, options.precision) == (True, 8, "trainer-bf16")
    assert options.gradient_checkpointing
    assert "fsdp_config.fsdp_sharding_strategy" in options.remarks[0]


@pytest.mark.parametrize(("line", "precision"), [
    ("mixed_precision: bf16", "trainer-bf16"), ("mixed_precision: 'no'", "trainer-no"),
    ("mixed_precision: no", "trainer-no"), ("debug: false", "trainer-no"),
])  # fmt: skip
def test_fsdp_without_mixed_precision_casts_nothing(tmp_path: Path, line: str, precision: str) -> None:
    text = ACCELERATE.replace("mixed_precision: bf16", line)
    assert with_file(Options(), written(tmp_path, text)).precision == precision


def test_axolotl(tmp_path: Path) -> None:
    options = with_file(Options(), written(tmp_path, AXOLOTL))
    check(options)
    assert (options.train, options.lora_rank, options.lora_targets) == ("qlora", 32, ("all-linear",))
    assert (options.batch, options.seq, options.lora_dropout) == (2, 4096, 0.05)
    assert "lora_alpha" in options.remarks[-1]
    assert options.precision == "trainer-bf16"


def test_an_8_bit_base(tmp_path: Path) -> None:
    text = AXOLOTL.replace("qlora", "lora").replace("load_in_4bit", "load_in_8bit")
    options = with_file(Options(), written(tmp_path, text))
    check(options)
    assert (options.train, options.dtype) == ("lora", "int8")
    assert with_file(Options(train="full"), written(tmp_path, text)).dtype is None


@pytest.mark.parametrize("text", [
    "mixed_precision: bf16\ndistributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 2}",
    "deepspeed_config: {zero_stage: 2}\nmixed_precision: bf16",
    "zero_optimization: {stage: 2}\nbf16: true",
])  # fmt: skip
def test_deepspeed_keeps_float32_weights_whoever_says_bf16(tmp_path: Path, text: str) -> None:
    assert with_file(Options(), written(tmp_path, text)).precision == "bf16-master"


def test_strategies_of_fsdp(tmp_path: Path) -> None:
    hybrid = ACCELERATE.replace("FULL_SHARD", "HYBRID_SHARD") + "num_machines: 2\n"
    options = with_file(Options(), written(tmp_path, hybrid))
    check(options)
    assert (options.fsdp, options.gpus, options.shard) == (True, 8, 4)
    assert not with_file(Options(), written(tmp_path, ACCELERATE.replace("FULL_SHARD", "NO_SHARD"))).fsdp
    other = with_file(Options(), written(tmp_path, ACCELERATE.replace("FULL_SHARD", "SHARD_GRAD_OP")))
    assert "fsdp_sharding_strategy" in other.remarks[-1]


def test_the_rank_of_a_low_rank_optimizer(tmp_path: Path) -> None:
    text = 'optim: galore_adamw\noptim_args: "rank=64, update_proj_gap=100"\n'
    assert with_file(Options(), written(tmp_path, text)).optimizer_rank == 64
    assert with_file(Options(optimizer="lion"), written(tmp_path, text)).optimizer_rank is None


def test_the_command_line_wins(tmp_path: Path) -> None:
    options = with_file(Options(train="lora", batch=16, lora_rank=4), written(tmp_path, AXOLOTL))
    assert (options.train, options.batch, options.lora_rank, options.seq) == ("lora", 16, 4, 4096)
    text = AXOLOTL + "bnb_4bit_use_double_quant: true\n"
    check(with_file(Options(train="lora"), written(tmp_path, text)))
    check(with_file(Options(train="full"), written(tmp_path, text)))


@pytest.mark.parametrize(("text", "words"), [
    ("[1, 2]", "not contain a mapping"),
    ("a: [", "neither valid JSON nor valid YAML"),
    ("per_device_train_batch_size: many", "per_device_train_batch_size"),
    ("per_device_train_batch_size: 2.5", "per_device_train_batch_size"),
    ("gradient_checkpointing: 3", "gradient_checkpointing"),
    ("lora_target_modules: 5", "lora_target_modules"),
    ("base_model: [1, 2]", "base_model"),
])  # fmt: skip
def test_broken_files_are_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidScenarioError, match=words):
        with_file(Options(), written(tmp_path, text))


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("text", [
    BOMB + "learning_rate: *i\nper_device_train_batch_size: *i\n",
    "x0: &x0 {b: 1}\n" + "".join(f"x{i}: &x{i} {{<<: [{','.join([f'*x{i - 1}'] * 9)}]}}\n" for i in range(1, 9)),
    "a: &a [*a]\nper_device_train_batch_size: *a\n",
    "a: &a [" + ",".join("x" * 900) + "]\nb: &b [" + ",".join(["*a"] * 900) + "]\nlearning_rate: *b\n",
])  # fmt: skip
def test_aliases_of_aliases_are_not_written_out(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidScenarioError, match="holds more than 20,000 values, with its aliases"):
        with_file(Options(train="full"), written(tmp_path, text))


def test_aliases_are_read(tmp_path: Path) -> None:
    text = "a: &a 4\nper_device_train_batch_size: *a\nb: &b {fsdp: full_shard}\nc: {<<: *b}\n"
    assert with_file(Options(train="full"), written(tmp_path, text)).batch == 4


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidScenarioError, match="cannot be read"):
        with_file(Options(), tmp_path / "none.yaml")


def test_a_trainer_without_an_optimizer_has_its_default(tmp_path: Path) -> None:
    """`default_optim` of transformers' training_args.py."""
    path = tmp_path / "arguments.yaml"
    path.write_text("per_device_train_batch_size: 2\n")
    found = with_file(Options(), path)
    assert found.optimizer == "adamw-fused"
    assert "adamw_torch_fused" in " ".join(found.remarks)
    path.write_text("per_device_train_batch_size: 2\noptim: adamw_torch\n")
    assert with_file(Options(), path).optimizer != "adamw-fused"
    assert with_file(Options(optimizer="lion"), path).optimizer == "lion"


def test_several_files_are_merged_in_order(tmp_path: Path) -> None:
    first = written(tmp_path, ACCELERATE + "learning_rate: 1\n", "accelerate.yaml")
    second = written(tmp_path, TRAINER.replace("deepspeed: ds.json\n", ""), "arguments.yaml")
    third = written(tmp_path, '{"per_device_train_batch_size": 16, "max_length": null}', "last.json")
    found = with_files(Options(), (first, second, third)).options
    check(found)
    assert (found.fsdp, found.gpus, found.gradient_checkpointing) == (True, 8, True)  # of the first
    assert (found.gradient_accumulation, found.optimizer) == (8, "adamw_torch_fused")  # of the second
    assert (found.batch, found.seq) == (16, None)  # of the last, which wins; null takes a key back
    told = " ".join(found.remarks)
    assert "arguments.yaml: per_device_train_batch_size, max_length are overridden by a later file." in told
    assert "accelerate.yaml: learning_rate is overridden" in told


def test_the_last_spelling_wins_too(tmp_path: Path) -> None:
    trl = written(tmp_path, "per_device_train_batch_size: 4\nmax_length: 512\n", "trl.yaml")
    axolotl = written(tmp_path, "micro_batch_size: 2\nsequence_len: 1024\n", "axolotl.yaml")
    assert with_files(Options(), (trl, axolotl)).options.batch == 2
    found = with_files(Options(), (axolotl, trl)).options
    assert (found.batch, found.seq) == (4, 512)
    assert any("micro_batch_size, sequence_len are overridden" in remark for remark in found.remarks)


@pytest.mark.parametrize("key", ["base_model", "model_name_or_path", "model_name", "pretrained_model_name_or_path"])
def test_the_model_of_a_file(tmp_path: Path, key: str) -> None:
    path = written(tmp_path, f"{key}: org/name\nmodel_revision: v1\nmicro_batch_size: 1\n")
    found = with_files(Options(), (path,))
    assert (found.model, found.revision, found.named) == ("org/name", "v1", f"config.yaml: {key}")
    assert key in found.options.remarks[0]


@pytest.mark.parametrize(("text", "option", "value"), [
    ("attn_implementation: flash_attention_2", "attention", "flash"),
    ("attn_implementation: kernels-community/flash-attn3", "attention", "flash"),
    ("attn_implementation: eager", "attention", "eager"),
    ("flash_attention: true", "attention", "flash"),
    ("sdp_attention: true", "attention", "sdpa"),
    ("torch_dtype: float32", "dtype", "float32"),
    ("dtype: bfloat16", "dtype", "bfloat16"),
    ("dtype: auto", "dtype", None),
    ("sequence_len: 32k", "seq", 32768),
    ("bf16: full", "precision", "bf16"),
    ("bfloat16: true", "precision", "bf16"),
    ("fp16: true", "precision", "trainer-fp16"),
    ("gradient_checkpointing: offload", "gradient_checkpointing", True),
    ("fsdp: [full_shard]\nfsdp_config: {offload_params: true}", "offload", "parameters"),
    ("fsdp: true\nparallelism_config: {parallelism_config_dp_shard_size: 4}\nnum_processes: 8", "shard", 4),
    ("dp_shard_size: 4\nnum_processes: 8", "shard", None),
    ("parallelism_config: {parallelism_config_tp_size: 2}\nnum_processes: 4", "tp", 2),
    ("parallelism_config: {parallelism_config_cp_size: 1}", "cp", None),
    ("tensor_parallel: {autotp_size: 2}\nnum_processes: 4", "tp", 2),
    ("distributed_type: MEGATRON_LM", "stack", "megatron"),
    ("megatron_lm_config: {megatron_lm_tp_degree: 2, megatron_lm_sequence_parallelism: true}\nnum_processes: 4",
     "sequence_parallel", True),
    ("megatron_lm_config: {megatron_lm_pp_degree: 2}\nnum_processes: 4", "pp", 2),
    ("zero_optimization: {stage: 2, cpu_offload: true}", "offload", "optimizer"),
    ("eval_strategy: steps\nper_device_eval_batch_size: 4", "eval_batch_size", 4),
    ("eval_strategy: epoch", "eval_batch_size", 8),
    ("eval_strategy: no\nper_device_eval_batch_size: 4", "eval_batch_size", None),
    ("per_device_eval_batch_size: 4", "eval_batch_size", None),
    ("eval_strategy: steps\neval_accumulation_steps: 16", "eval_accumulation_steps", 16),
])  # fmt: skip
def test_what_keys_mean(tmp_path: Path, text: str, option: str, value: object) -> None:
    found = with_file(Options(), written(tmp_path, text))
    check(found)
    assert getattr(found, option) == value


LEFT_OUT = """\
adapter: none_of_ours
datasets: [{path: a, type: b}]
plugins: []
fsdp_config: {}
rl: dpo
a: {b: {c: {d: {e: {f: 1}}}}}
nothing: null
warmup_steps: auto
"""


def test_no_key_is_passed_over_in_silence(tmp_path: Path) -> None:
    text = TRAINER.replace("deepspeed: ds.json\n", "") + ACCELERATE.replace("fsdp_config:", "other_config:") + LEFT_OUT
    found = with_files(Options(), (written(tmp_path, text), written(tmp_path, AXOLOTL, "axolotl.yaml")))
    told = " ".join(found.options.remarks)
    keys = [line.split(":")[0].strip() for line in (text + AXOLOTL).splitlines()]
    assert [key for key in keys if key not in told] == []


def test_what_gives_way_to_the_command_line_is_named(tmp_path: Path) -> None:
    found = with_file(Options(train="lora", batch=16), written(tmp_path, AXOLOTL))
    told = " ".join(found.remarks)
    assert "micro_batch_size" in told.partition("overridden by the command line")[0].rpartition("config.yaml")[2]
    full = with_file(Options(train="full"), written(tmp_path, AXOLOTL))
    (ignored,) = [remark for remark in full.remarks if "ignored" in remark]
    assert all(key in ignored for key in ("lora_r", "lora_dropout", "lora_target_linear"))


_SFT = """
use_peft: true
load_in_4bit: true
lora_r: 16
per_device_train_batch_size: 2
max_length: 2048
packing: true
bf16: true
loss_type: nll
"""
_GRPO = """
per_device_train_batch_size: 4
num_generations: 8
max_completion_length: 1024
beta: 0.04
use_vllm: true
vllm_gpu_memory_utilization: 0.25
gradient_checkpointing: false
"""


def test_a_file_of_sft(tmp_path: Path) -> None:
    found = with_file(Options(), written(tmp_path, _SFT, "sft.yaml"))
    assert (found.train, found.train_method, found.lora_rank) == ("sft", "qlora", 16)
    assert (found.batch, found.seq, found.packing, found.loss_type) == (2, 2048, True, "nll")
    assert found.gradient_checkpointing is None  # TRL's own default


def test_a_file_of_grpo(tmp_path: Path) -> None:
    found = with_file(Options(), written(tmp_path, _GRPO, "grpo.yaml"))
    assert (found.train, found.train_method, found.num_generations) == ("grpo", "full", 8)
    assert (found.max_completion_length, found.beta) == (1024, 0.04)
    assert (found.vllm_mode, found.vllm_gpu_memory_utilization) == ("colocate", 0.25)
    assert found.gradient_checkpointing is False


@pytest.mark.parametrize(
    ("text", "trainer"),
    [
        ("beta: 0.1\nloss_type: [sigmoid]\nf_divergence_type: reverse_kl\n", "dpo"),
        ("desirable_weight: 1.0\nmax_length: 512\n", "kto"),
        ("num_generations: 2\nnormalize_advantages: true\n", "rloo"),
        ("center_rewards_coefficient: 0.01\n", "reward"),
        ("per_device_train_batch_size: 4\nmax_length: 512\n", "full"),
        ("sample_packing: true\nsequence_len: 512\n", "full"),
        ("packing: true\ncutoff_len: 512\nfinetuning_type: full\n", "full"),
    ],
)
def test_the_trainer_that_a_file_is_for(tmp_path: Path, text: str, trainer: str) -> None:
    assert with_file(Options(), written(tmp_path, text, "file.yaml")).train == trainer


def test_the_command_line_names_the_trainer(tmp_path: Path) -> None:
    path = written(tmp_path, "beta: 0.3\nuse_peft: true\nlora_r: 8\nmax_length: 512\nloss_type: [ipo]\n", "run.yaml")
    found = with_file(Options(train="dpo"), path)
    assert (found.train, found.train_method, found.beta, found.loss_type) == ("dpo", "lora", 0.3, "ipo")
    assert with_file(Options(train="dpo", train_method="full"), path).train_method == "full"
    plain = with_file(Options(train="lora"), path)
    assert (plain.train, plain.beta, plain.loss_type) == ("lora", None, None)


def test_trl_without_mixed_precision(tmp_path: Path) -> None:
    found = with_file(Options(), written(tmp_path, "packing: true\nbf16: false\n", "sft.yaml"))
    assert (found.train, found.precision) == ("sft", "trainer-no")
    half = with_file(Options(), written(tmp_path, "packing: true\nbf16: false\nfp16: true\n", "sft.yaml"))
    assert half.precision == "trainer-fp16"
    plain = with_file(Options(), written(tmp_path, "learning_rate: 1.0e-4\nbf16: false\n", "plain.yaml"))
    assert (plain.train, plain.precision) == ("full", None)
