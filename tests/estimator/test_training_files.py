"""Options from training files: each key is used or named as ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfmem import Options
from hfmem.errors import InvalidScenarioError
from hfmem.scenario.check import check
from hfmem.scenario.files import with_file

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


def written(tmp_path: Path, text: str, name: str = "config.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


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
    ("[1, 2]", "no mapping"),
    ("a: [", "neither JSON nor YAML"),
    ("per_device_train_batch_size: many", "per_device_train_batch_size"),
    ("per_device_train_batch_size: 2.5", "per_device_train_batch_size"),
    ("gradient_checkpointing: 3", "gradient_checkpointing"),
    ("lora_target_modules: 5", "lora_target_modules"),
])  # fmt: skip
def test_broken_files_are_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidScenarioError, match=words):
        with_file(Options(), written(tmp_path, text))


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
