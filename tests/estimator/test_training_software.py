"""Training files beside each other: whose they are, what that software does by itself, and what it refuses."""

from __future__ import annotations

import ast
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from hfmem import Options, estimate, inspect
from hfmem.api import report_on
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.recipe.stacks import KIN, kin_of
from hfmem.scenario import software
from hfmem.scenario.check import check
from hfmem.scenario.files import with_files
from tests.estimator.training_files import written

LORA = """\
model_name_or_path: Qwen/Qwen3-4B-Instruct-2507
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 16
lora_alpha: 32
lora_target: all
use_dora: true
flash_attn: fa2
enable_liger_kernel: true
cutoff_len: 4096
per_device_train_batch_size: 1
gradient_accumulation_steps: 2
optim: adamw_torch
bf16: true
template: qwen3_nothink
"""
"""In the manner of hiyouga/LLaMA-Factory, examples/train_lora/qwen3_lora_sft.yaml."""


def read(tmp_path: Path, *texts: str, options: Options | None = None, given: tuple[str, ...] = ()) -> Options:
    """The options of files `0.yaml`, `1.yaml`, …, which no check refuses."""
    paths = [written(tmp_path, text, f"{number}.yaml") for number, text in enumerate(texts)]
    found = with_files(options or Options(), paths, given).options
    check(found)
    return found


def told(options: Options, words: str) -> str:
    """The remarks that end with these words."""
    return " ".join(remark for remark in options.remarks if remark.endswith(words))


TRAINER = '{"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "bf16": true, "warmup_steps": 10}'
DEEPSPEED = (
    '{"zero_optimization": {"stage": 2}, "gradient_accumulation_steps": "auto", "bf16": {"enabled": "auto"}, '
    '"train_micro_batch_size_per_gpu": "auto", "warmup_steps": "auto"}'
)


@pytest.mark.parametrize("order", [(TRAINER, DEEPSPEED), (DEEPSPEED, TRAINER)])
def test_auto_leaves_a_key_to_the_others(tmp_path: Path, order: tuple[str, str]) -> None:
    """`fill_match` of transformers' integrations/deepspeed.py: "auto" is what `TrainingArguments` have."""
    found = read(tmp_path, *order)
    assert (found.batch, found.gradient_accumulation, found.zero, found.precision) == (2, 4, 2, "bf16-master")
    left = told(found, "left to the trainer (auto).")
    assert all(key in left for key in ("gradient_accumulation_steps", "train_micro_batch_size_per_gpu", "bf16.enabled"))
    assert "gradient_accumulation_steps" in told(found, "used.")
    assert not told(found, "overridden by a later file.")


def test_auto_of_any_file_leaves_a_key_to_the_others(tmp_path: Path) -> None:
    found = read(tmp_path, "per_device_train_batch_size: 4", "per_device_train_batch_size: auto")
    assert found.batch == 4
    assert read(tmp_path, "dtype: float32", "dtype: auto").dtype is None  # the checkpoint's, a value of its own


@pytest.mark.parametrize(("texts", "words"), [
    (('{"per_device_train_batch_size": 2}', '{"train_micro_batch_size_per_gpu": 8}'),
     ("0.yaml: per_device_train_batch_size is 2", "1.yaml: train_micro_batch_size_per_gpu is 8", '"auto"')),
    (('{"train_micro_batch_size_per_gpu": 8}', "micro_batch_size: 2"),
     ("1.yaml: micro_batch_size is 2", "0.yaml: train_micro_batch_size_per_gpu is 8")),
    ((TRAINER, '{"zero_optimization": {"stage": 2}, "gradient_accumulation_steps": 8}'),
     ("0.yaml: gradient_accumulation_steps is 4", "1.yaml: gradient_accumulation_steps is 8")),
    (('{"gradient_accumulation_steps": 4, "deepspeed": {"gradient_accumulation_steps": 8}}',),
     ("gradient_accumulation_steps is 4", "deepspeed.gradient_accumulation_steps is 8")),
    (("deepspeed_config: {gradient_accumulation_steps: 1}\ndistributed_type: DEEPSPEED", TRAINER),
     ("1.yaml: gradient_accumulation_steps is 4", "0.yaml: deepspeed_config.gradient_accumulation_steps is 1")),
    (('{"bf16": true, "fp16": true}',), ("bf16 is true", "fp16 is true")),
    (('{"bf16": true}', '{"fp16": true}'), ("0.yaml: bf16 is true", "1.yaml: fp16 is true")),
    (('{"bf16": true}', '{"fp16": {"enabled": true}}'), ("0.yaml: bf16 is true", "1.yaml: fp16.enabled is true")),
    (('{"bf16": true}', '{"bf16": {"enabled": false}}'), ("0.yaml: bf16 is true", "1.yaml: bf16.enabled is false")),
    (('{"bf16": {"enabled": true}, "fp16": {"enabled": true}}',), ("bf16.enabled is true", "fp16.enabled is true")),
])  # fmt: skip
def test_what_the_trainer_refuses_is_refused(tmp_path: Path, texts: tuple[str, ...], words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidScenarioError) as error:
        read(tmp_path, *texts)
    assert [word for word in words if word not in error.value.reason] == []


@pytest.mark.parametrize(("texts", "options"), [
    (('{"per_device_train_batch_size": 8}', '{"train_micro_batch_size_per_gpu": 8}'), Options()),
    (('{"per_device_train_batch_size": 2}', '{"train_micro_batch_size_per_gpu": 8}'), Options(batch=4)),
    (('{"bf16": true, "fp16": false}',), Options()),
    (('{"bf16": true}', '{"bf16": false, "fp16": true}'), Options()),
    (('{"bf16": true, "fp16": true}',), Options(precision="bf16")),
    (("bf16: auto\nfp16: true\nsequence_len: 32",), Options()),
])  # fmt: skip
def test_what_agrees_or_was_decided_is_not_refused(tmp_path: Path, texts: tuple[str, ...], options: Options) -> None:
    read(tmp_path, *texts, options=options)


def test_an_optimizer_of_deepspeed_is_the_one_that_runs(tmp_path: Path) -> None:
    """`deepspeed_optim_sched` of transformers' integrations/deepspeed.py asks no further where there is one."""
    deepspeed = '{"optimizer": {"type": "Lion"}, "zero_optimization": {"stage": 2}}'
    trainer = "optim: adafactor\nper_device_train_batch_size: 1\n"
    for files in ((deepspeed, trainer), (trainer, deepspeed)):
        found = read(tmp_path, *files)
        assert found.optimizer == "Lion"
        assert "optim" in told(found, "overridden by a later file.")


@pytest.mark.parametrize("text", [
    '{"bf16": true, "fp16": false, "gradient_checkpointing": true}',
    '{"learning_rate": 1e-5}',
    '{"gradient_accumulation_steps": 2}',
    "use_peft: true",
    "deepspeed: {zero_optimization: {stage: 1}}",
    "base_model: org/name",
    "sequence_len: 32",
    "finetuning_type: full",
])  # fmt: skip
def test_every_trainer_has_its_default_optimizer(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text)
    assert found.optimizer == "adamw-fused"
    assert "adamw_torch_fused" in found.remarks[-1]
    assert read(tmp_path, text, options=Options(optimizer="lion")).optimizer == "lion"


@pytest.mark.parametrize("text", [
    "zero_optimization: {stage: 2}\ngradient_accumulation_steps: 2",
    "fp16: {enabled: true}",
    "mixed_precision: bf16\nfsdp_config: {fsdp_offload_params: false}\ndistributed_type: FSDP\ndebug: false",
    "num_processes: 2",
    "unknown: 1",
])  # fmt: skip
def test_files_that_start_any_software_have_no_default_optimizer(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).optimizer is None


def test_the_micro_batch_of_training_arguments(tmp_path: Path) -> None:
    """`per_device_train_batch_size` is 8 where a file leaves it out; axolotl's `micro_batch_size` is 1."""
    found = read(tmp_path, "learning_rate: 1.0e-5")
    assert (found.batch, "per_device_train_batch_size 8" in found.remarks[-1]) == (8, True)
    assert read(tmp_path, "learning_rate: 1.0e-5\nsequence_len: 32").batch == 1
    assert read(tmp_path, '{"learning_rate": 1}', '{"train_micro_batch_size_per_gpu": 2}').batch == 2


def test_the_command_line_wins_with_a_default_value_too(tmp_path: Path) -> None:
    assert read(tmp_path, "per_device_train_batch_size: 4", given=("batch",)).batch == 1
    found = read(tmp_path, "learning_rate: 1.0e-5", given=("batch",))
    assert (found.batch, "per_device" in found.remarks[-1]) == (1, False)


def test_the_fields_of_training_arguments() -> None:
    """Every field of the installed class, unless it is a newer one."""
    spec = find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    if not version("transformers").startswith("5.24."):
        pytest.skip("another transformers than the one that was read")
    tree = ast.parse((Path(spec.origin).parent / "training_args.py").read_text(encoding="utf-8"))
    (made,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments")
    names = {
        node.target.id for node in made.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert names <= software._TRAINING_ARGUMENTS


def test_llama_factory(tmp_path: Path) -> None:
    found = read(tmp_path, LORA)
    assert (found.train, found.lora_rank, found.lora_targets, found.dora) == ("lora", 16, ("all-linear",), True)
    assert (found.batch, found.seq, found.gradient_accumulation) == (1, 4096, 2)
    assert (found.attention, found.fused_loss, found.optimizer) == ("flash", True, "adamw_torch")
    assert (found.precision, found.gradient_checkpointing) == ("trainer-bf16", True)
    assert told(found, "ignored.") == "0.yaml: do_train, lora_alpha, template are ignored."
    assert found.remarks[-1].endswith("LLaMA-Factory for the keys that it omits: disable_gradient_checkpointing false.")


def test_llama_factory_leaves_much_out(tmp_path: Path) -> None:
    """The defaults of its `hparams`."""
    found = read(tmp_path, "dataset_dir: data")
    assert (found.train, found.lora_targets, found.seq, found.batch) == ("lora", ("all-linear",), 2048, 8)
    assert (found.gradient_checkpointing, found.optimizer) == (True, "adamw-fused")


@pytest.mark.parametrize(("text", "option", "value"), [
    ("quantization_bit: 4", "train", "qlora"),
    ("quantization_bit: 4", "double_quant", True),
    ("quantization_bit: 4\ndouble_quantization: false", "double_quant", False),
    ("quantization_bit: 8", "dtype", "int8"),
    ("quantization_bit: 4\nquantization_method: hqq", "train", "lora"),
    ("lora_target: q_proj,v_proj", "lora_targets", ("q_proj", "v_proj")),
    ("lora_target: [all]", "lora_targets", ("all-linear",)),
    ("additional_target: embed_tokens", "modules_to_save", ("embed_tokens",)),
    ("disable_gradient_checkpointing: true", "gradient_checkpointing", False),
    ("flash_attn: disabled", "attention", "eager"),
    ("flash_attn: sdpa", "attention", "sdpa"),
    ("flash_attn: auto", "attention", "sdpa"),
    ("finetuning_type: full\nbf16: true", "precision", "autocast-bf16"),  # `cast_trainable_params_to_fp32`
    ("finetuning_type: full", "precision", "fp32"),
    ("finetuning_type: full\npure_bf16: true", "precision", "bf16"),
    ("finetuning_type: full\npure_bf16: true\nbf16: true", "precision", "trainer-bf16"),
    ("finetuning_type: full\nbf16: true\ndeepspeed: {zero_optimization: {stage: 3}}", "precision", "bf16-master"),
    ("finetuning_type: full\nlora_rank: 8", "lora_rank", None),
    ("finetuning_type: full\noptim: adamw_torch\nuse_galore: true", "optimizer", "galore"),
    ("finetuning_type: full\nuse_galore: true\noptim: adamw_torch", "optimizer", "galore"),
    ("finetuning_type: full\nuse_galore: true", "optimizer_rank", 16),
    ("finetuning_type: full\nuse_apollo: true\napollo_rank: 32", "optimizer_rank", 32),
    ("finetuning_type: full\nfreeze_vision_tower: true", "freeze", ("vision",)),
])  # fmt: skip
def test_what_keys_of_llama_factory_mean(tmp_path: Path, text: str, option: str, value: object) -> None:
    assert getattr(read(tmp_path, f"dataset_dir: data\n{text}"), option) == value


def test_a_deepspeed_file_of_llama_factory(tmp_path: Path) -> None:
    written(tmp_path, DEEPSPEED, "ds.json")
    found = read(tmp_path, LORA + "deepspeed: ds.json\n")
    assert (found.train, found.zero, found.gradient_accumulation) == ("lora", 2, 2)


@pytest.mark.parametrize(("text", "key", "train"), [
    ("finetuning_type: freeze", "finetuning_type", "full"),
    ("finetuning_type: oft\nlora_rank: 8", "finetuning_type", "lora"),
    ("adapter: llama-adapter", "adapter", "full"),
    ("peft_method: ia3", "peft_method", "full"),
    ("train_type: longlora", "train_type", "full"),
    ("tuner: boft", "tuner", "full"),
    ("peft_config: {rank: 8}", "peft_config.rank", "full"),
    ("lora: {rank: 8}", "lora.rank", "full"),
    ("lora_alpha: 8", "lora_alpha", "full"),
    ("load_in_4bit: true", "load_in_4bit", "full"),
])  # fmt: skip
def test_a_method_that_is_not_known_is_told(tmp_path: Path, text: str, key: str, train: str) -> None:
    found = read(tmp_path, text)
    assert found.train == train
    sentence = f"0.yaml: {key} does not say here what is trained: --train {train} is assumed; "
    assert any(remark.startswith(sentence) for remark in found.remarks)
    chosen = read(tmp_path, text, options=Options(train="lora"))
    assert not any("is assumed" in remark for remark in chosen.remarks)


@pytest.mark.parametrize(
    "text", ["finetuning_type: full\nlora_alpha: 1", "use_peft: false\nlora_alpha: 1", "bf16: true"]
)
def test_full_training_that_is_meant_is_not_doubted(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text)
    assert found.train == "full"
    assert not any("is assumed" in remark for remark in found.remarks)


@pytest.mark.parametrize("word", ["lora", "qlora", "full"])
@pytest.mark.parametrize("key", ["finetuning_type", "train_type", "tuner_type", "adapter"])
def test_methods_by_their_words(tmp_path: Path, key: str, word: str) -> None:
    assert read(tmp_path, f"{key}: {word}").train == word


@pytest.mark.parametrize("text", [
    "use_peft: true\nload_in_4bit: true\nlora_r: 8",
    "lora_r: 8\nuse_peft: true\nload_in_4bit: true",
    "load_in_4bit: true\nadapter: qlora",
])  # fmt: skip
def test_what_full_training_takes_away_is_not_used(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text, options=Options(train="full"))
    assert found.lora_rank is None
    assert not told(found, " used.")
    line = told(found, "overridden by the command line.")
    assert [key for key in ("use_peft", "load_in_4bit", "adapter") if key in text and key not in line] == []


@pytest.mark.parametrize(("text", "options", "key", "outcome"), [
    ("use_peft: true\nload_in_4bit: true", Options(), "load_in_4bit", "used."),
    ("use_peft: true\nload_in_4bit: true", Options(train="lora"), "load_in_4bit", "overridden by the command line."),
    ("load_in_8bit: true\nuse_peft: true", Options(), "load_in_8bit", "used."),
    ("load_in_8bit: true\nuse_peft: true", Options(dtype="float32"), "load_in_8bit", "overridden by the command line."),
    ("load_in_8bit: true", Options(), "load_in_8bit", "ignored."),
    ("finetuning_type: full\nlora_rank: 8", Options(), "lora_rank", "ignored."),
    ("lora_rank: 8\nfinetuning_type: full", Options(), "lora_rank", "ignored."),
    ("gradient_checkpointing: false", Options(gradient_checkpointing=True), "gradient_checkpointing",
     "overridden by the command line."),
    ("per_device_train_batch_size: 8\ntrain_micro_batch_size_per_gpu: 8", Options(), "per_device_train_batch_size",
     "used."),
    ("bf16: true\ndeepspeed: {bf16: {enabled: true}}", Options(), "bf16", "used."),
    ("num_machines: 2", Options(), "num_machines", "ignored."),
    ("quantization_bit: 3\ndataset_dir: a", Options(), "quantization_bit", "ignored."),
])  # fmt: skip
def test_notes_tell_what_became_of_a_key(tmp_path: Path, text: str, options: Options, key: str, outcome: str) -> None:
    assert f" {key}," in told(read(tmp_path, text, options=options), outcome).replace(" is ", ", ").replace(
        " are ", ", "
    )


@pytest.mark.parametrize("name", [name for kin in KIN for name in kin.names])
def test_software_is_estimated_as_what_it_trains_with(name: str) -> None:
    kin = kin_of(name)
    assert kin is not None
    model = inspect("Qwen/Qwen2.5-0.5B", offline=True)
    asked = {"train": "full", "seq": 512, "dp": 2, "zero": 1}
    found, own = (estimate(model, stack=stack, **asked) for stack in (name, kin.of))
    assert found.estimate.total == own.estimate.total
    assert found.scenario.training.stack.name == name
    assert any(kin.why in told for told in found.scenario.chosen)


def test_pytorch_alone_does_not_widen_what_it_shards() -> None:
    model = inspect("Qwen/Qwen2.5-7B-Instruct", offline=True)
    kept = {
        stack: getattr(estimate(model, train="full", fsdp=True, dp=8, stack=stack).estimate.training, "steady", 0)
        for stack in ("transformers-5", "axolotl", "torchtune", "torchtitan")
    }
    assert kept["torchtune"] * 2 == pytest.approx(kept["transformers-5"], rel=0.01)
    assert kept["axolotl"] == kept["torchtitan"] == kept["transformers-5"]


def test_trainers_of_trl_take_software_that_is_built_on_transformers() -> None:
    check(Options(train="dpo", stack="unsloth"))
    with pytest.raises(InvalidScenarioError):
        check(Options(train="dpo", stack="nemo"))
    with pytest.raises(InvalidScenarioError):
        check(Options(train="full", stack="nobody"))


@pytest.mark.parametrize(("dtype", "width"), [("auto", 2), ("bfloat16", 2), ("float32", 4), (None, 4)])
def test_trl_loads_in_float32_unless_a_file_says_otherwise(tmp_path: Path, dtype: str | None, width: int) -> None:
    """trl 1.16.0, trainer/utils.py:1332: `auto` is the checkpoint's own dtype."""
    text = "max_length: 512\n" + (f"dtype: {dtype}\n" if dtype else "")
    options = read(tmp_path, text, options=Options(train="sft"))
    found = report_on(inspect("Qwen/Qwen2.5-0.5B", offline=True), options).estimate
    assert found.group("weights") == width * 494_032_768
