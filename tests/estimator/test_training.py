"""The phases of a training step: what each holds, which sets the peak, and what changes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfmem import Model, Report, estimate, inspect
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.overheads import OVERHEADS
from hfmem.estimator.values import GROUPS

GIB = 2**30
LLAMA = "meta-llama/Llama-2-7b-hf"
MISTRAL = "mistralai/Mistral-7B-v0.1"
COUNT = 7_241_732_096


@pytest.fixture(scope="module")
def mistral() -> Model:
    return inspect(MISTRAL, offline=True)


def train(model: Model | str, **asked: Any) -> Report:
    return estimate(model, train=asked.pop("train", "full"), offline=True, **asked)


def phase(report: Report, name: str) -> int:
    return next(phase.total for phase in report.estimate.phases if phase.name == name)


def test_the_peak_is_the_largest_phase_and_its_terms_are_the_answer(mistral: Model) -> None:
    found = train(mistral, batch=4, seq=4096).estimate
    assert [phase.name for phase in found.phases] == ["logits", "backward", "optimizer"]
    assert found.total == max(phase.total for phase in found.phases)
    assert found.total == sum(found.group(group) or 0 for group in GROUPS)
    assert {term.phase for term in found.terms} == {found.peak_phase}
    assert found.group("kv_cache") == 0


def test_full_training_in_bf16_is_ten_bytes_a_parameter_at_the_step(mistral: Model) -> None:
    """A100 runs of the same model: 72,434,837,504 B (github.com/foundation-model-stack/fms-acceleration)."""
    report = train(mistral, batch=4, seq=4096, gradient_checkpointing=True)
    assert report.estimate.peak_phase == "optimizer"
    assert report.estimate.training is not None
    assert report.estimate.training.allocated == pytest.approx(72_434_837_504, rel=1e-4)
    assert report.estimate.training.allocated == 10 * COUNT + 2 * 8_519_680


@pytest.mark.parametrize(
    ("optimizer", "bytes_a_parameter"),
    [("adamw", 10), ("adamw-fused", 8), ("sgd", 4), ("sgd-momentum", 6), ("rmsprop", 8), ("lomo", 2), ("lion", 8)],
)
def test_optimizers_at_the_step(mistral: Model, optimizer: str, bytes_a_parameter: int) -> None:
    report = train(mistral, batch=1, seq=1, optimizer=optimizer)
    expected = bytes_a_parameter * COUNT
    assert phase(report, "optimizer") == pytest.approx(expected, rel=0.05 if optimizer == "lomo" else 0.02, abs=GIB)


@pytest.mark.parametrize(
    ("precision", "steady"),
    [("bf16", 6), ("fp32", 12), ("autocast-bf16", 12), ("bf16-master", 14), ("megatron-bf16", 14)],
)
def test_what_stays_by_precision(mistral: Model, precision: str, steady: int) -> None:
    facts = train(mistral, batch=1, seq=16, precision=precision).estimate.training
    assert facts is not None
    assert facts.steady == pytest.approx(steady * COUNT, abs=20_000_000)


def test_gradients_stay_when_they_accumulate(mistral: Model) -> None:
    once = train(mistral, batch=2, seq=2048, gradient_checkpointing=True)
    several = train(mistral, batch=2, seq=2048, gradient_checkpointing=True, gradient_accumulation=8)
    assert phase(several, "logits") - phase(once, "logits") == 2 * COUNT
    assert phase(several, "optimizer") == phase(once, "optimizer")


def test_frozen_parts_have_neither_gradients_nor_states(mistral: Model) -> None:
    whole = train(mistral, seq=64, optimizer="adamw-fused")
    frozen = train(mistral, seq=64, optimizer="adamw-fused", freeze=("embedding", "lm_head"))
    assert phase(whole, "optimizer") - phase(frozen, "optimizer") == 2 * 32000 * 4096 * (2 + 4)


def test_a_fused_loss_shrinks_the_logits(mistral: Model) -> None:
    plain = train(mistral, batch=4, seq=4096, gradient_checkpointing=True, train="lora")
    fused = train(mistral, batch=4, seq=4096, gradient_checkpointing=True, train="lora", fused_loss=True)
    assert plain.estimate.peak_phase == "logits"
    assert phase(fused, "logits") < phase(plain, "logits") - 4 * GIB


def test_qlora_stores_the_linear_modules_in_four_bits(mistral: Model) -> None:
    """End of A100 runs, NF4 with double quantisation: 4,306,496,512 B."""
    asked = {"lora_rank": 16, "lora_targets": ("q_proj", "k_proj", "v_proj", "o_proj"), "lora_dropout": 0.1}
    facts = train(mistral, train="qlora", double_quant=True, seq=64, **asked).estimate.training
    assert facts is not None
    assert facts.steady == pytest.approx(4_306_496_512, rel=0.001)
    plain = train(mistral, train="qlora", seq=64, **asked).estimate.training
    assert plain is not None
    linears = COUNT - 2 * 32000 * 4096
    assert plain.steady - facts.steady == pytest.approx(linears * (4.5 - 4.127) / 8, rel=0.001)


def test_advice_is_computed_and_ordered(mistral: Model) -> None:
    report = train(mistral, batch=4, seq=4096)
    assert report.estimate.training is not None
    advice = report.savings
    totals = [item.total for item in advice]
    assert totals == sorted(totals)
    assert all(total < report.estimate.total for total in totals)
    checkpointing = next(item for item in advice if item.option == "--gradient-checkpointing")
    again = train(mistral, batch=4, seq=4096, gradient_checkpointing=True)
    assert checkpointing.total == again.estimate.total


@pytest.mark.parametrize("asked", [
    {"dp": 8}, {"dp": 8, "zero": 2, "shard": 2}, {"dp": 8, "precision": "bf16"}, {"train": "lora", "dtype": "int8"},
    {"dp": 8, "zero": 1, "offload": "optimizer"},
])  # fmt: skip
@pytest.mark.parametrize("name", [MISTRAL, "Qwen/Qwen3-30B-A3B"])
def test_advice_is_what_its_option_gives(name: str, asked: dict[str, Any]) -> None:
    more = {"lora_targets": ("all-linear",)} if "train" in asked else {}
    report = train(name, batch=2, seq=256, **asked, **more)
    assert report.estimate.training is not None
    assert report.savings
    for saving in report.savings:
        options = saving.option.replace("-fsdp", "-fsdp True").split()
        words = [word.removeprefix("--").replace("-", "_") for word in options]
        pairs: dict[str, Any] = dict(zip(words[::2], words[1::2], strict=True)) if len(words) > 1 else {words[0]: True}
        pairs |= {"fsdp": True} if "fsdp" in pairs else {}
        added = {key: int(v) if str(v).isdigit() and v is not True else v for key, v in pairs.items()}
        added |= {key: str(added[key]).replace("_", "-") for key in ("optimizer", "lora_targets") if key in added}
        again = train(name, **{"batch": 2, "seq": 256, **asked, **more, **added})
        assert again.estimate.total == saving.total, saving


def test_an_encoder_that_is_not_counted_leaves_a_lower_bound() -> None:
    config = {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "d_model": 64,
        "d_kv": 8,
        "d_ff": 128,
    }
    config |= {"num_layers": 2, "num_heads": 8, "vocab_size": 512, "torch_dtype": "float32"}
    from tests.measured.training import from_config

    model = from_config("org/t5", config)
    few, many = (train(model, seq=32, source_seq=tokens, stack="transformers-4.45-kbit") for tokens in (16, 4096))
    assert many.estimate.is_lower_bound
    assert few.estimate.is_lower_bound or few.estimate.total < many.estimate.total
    assert any("4,096 tokens" in reason for _, reason in many.estimate.unknown)


def test_sizes_of_nothing_are_no_trouble() -> None:
    from tests.measured.training import from_config

    config = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 128}
    config |= {"num_hidden_layers": 1, "intermediate_size": 0, "torch_dtype": "bfloat16"}
    for method in ("full", "qlora"):
        report = train(from_config("org/empty", config), train=method, seq=8)
        assert report.estimate.total == sum(term.nbytes for term in report.estimate.terms)
    bare = from_config("org/bare", config | {"num_hidden_layers": 0})
    with pytest.raises(InvalidScenarioError, match="no linear modules"):
        train(bare, train="lora", lora_targets="all-linear")


def test_nothing_of_an_unknown_model_is_none() -> None:
    from tests.measured.training import from_config

    found = train(from_config("org/odd", {"model_type": "not_a_type"})).estimate
    assert all(found.group(group) is None for group in ("weights", "activations", "gradients", "optimizer"))


def test_what_is_quantised_already_has_no_4_bit_base() -> None:
    name = "Qwen/Qwen3-8B-FP8"
    with pytest.raises(InvalidScenarioError, match="quantised already"):
        train(name, train="qlora")
    full = train(name, seq=64)
    assert full.estimate.training is not None
    assert not any("qlora" in saving.option for saving in full.savings)
    assert any("F8_E4M3 are trained in bfloat16" in note for note in full.notes)


def test_names_that_mean_nothing_are_told(mistral: Model) -> None:
    report = train(mistral, train="lora", lora_targets=("q_proj", "foo"), modules_to_save=("bar",))
    assert "--lora-targets: no module is named foo." in report.notes
    assert "--modules-to-save: no module is named bar." in report.notes
    assert "--freeze: the model has no vision." in train(mistral, freeze=("vision",)).notes
    with pytest.raises(InvalidScenarioError, match="nothing to train"):
        train(mistral, freeze=("embedding", "attention", "mlp", "norm", "lm_head"))


def test_unknown_layers_leave_a_lower_bound() -> None:
    config = {"model_type": "not_a_type", "hidden_size": 8}
    from tests.measured.training import from_config

    report = estimate(from_config("org/odd", config), train="full")
    assert report.estimate.is_lower_bound


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 16), seq=st.integers(1, 8192), more=st.integers(1, 2048), gc=st.booleans())
def test_more_tokens_never_need_less(mistral: Model, batch: int, seq: int, more: int, gc: bool) -> None:
    small = train(mistral, batch=batch, seq=seq, gradient_checkpointing=gc).estimate
    large = train(mistral, batch=batch, seq=seq + more, gradient_checkpointing=gc).estimate
    assert large.total >= small.total
    for before, after in zip(small.phases, large.phases, strict=True):
        assert after.total >= before.total


@settings(max_examples=15, deadline=None)
@given(ranks=st.sampled_from([2, 4, 8]), stage=st.integers(1, 3))
def test_sharding_further_never_needs_more(mistral: Model, ranks: int, stage: int) -> None:
    fewer = phase(train(mistral, seq=64, zero=stage, dp=ranks), "optimizer")
    assert phase(train(mistral, seq=64, zero=stage, dp=2 * ranks), "optimizer") <= fewer


def test_depth_is_no_straight_line() -> None:
    """Llama-2-7B, checkpointing, 16 × 2048: the logits set the peak of few layers, the optimizer that of all 32."""
    report = train(LLAMA, batch=16, seq=2048, gradient_checkpointing=True, precision="bf16")
    assert report.estimate.peak_phase == "optimizer"


def test_names_may_be_a_list_with_commas(mistral: Model) -> None:
    listed = train(mistral, train="lora", lora_targets="q_proj, v_proj").estimate
    assert listed == train(mistral, train="lora", lora_targets=("q_proj", "v_proj")).estimate


def test_the_buckets_of_ddp_are_always_there(mistral: Model) -> None:
    nccl = next(row.nbytes for row in OVERHEADS if row.name == "NCCL")
    one, several = (phase(train(mistral, seq=64, dp=ranks), "optimizer") for ranks in (1, 2))
    assert several - one == 2 * COUNT + nccl


@pytest.mark.parametrize("ranks", [{"cp": 4}, {"tp": 4}, {"tp": 4, "sequence_parallel": True}])
def test_ranks_of_a_sequence_share_its_activations(mistral: Model, ranks: dict[str, Any]) -> None:
    alone = train(mistral, batch=2, seq=4096).estimate.phases[0].group("activations")
    shared = train(mistral, batch=2, seq=4096, **ranks).estimate.phases[0].group("activations")
    assert shared < alone


def test_experts_are_spread_over_ranks() -> None:
    mixture = inspect("mistralai/Mixtral-8x7B-v0.1", offline=True)
    alone = train(mixture, seq=128, dp=8, zero=1).estimate
    spread = train(mixture, seq=128, dp=8, zero=1, ep=8).estimate
    experts = 8 * 3 * 4096 * 14336 * 32
    assert (alone.group("weights") or 0) - (spread.group("weights") or 0) == 2 * experts * 7 // 8


def test_paged_states_may_be_on_the_host_and_the_answer_is_a_range(mistral: Model) -> None:
    report = train(mistral, optimizer="paged-adamw", optimizer_in_backward=True)
    found, facts = report.estimate, report.estimate.training
    states = 8 * COUNT  # two float32 moments
    assert facts is not None
    assert found.total - found.low == states
    assert facts.allocated < found.total - states  # no context
    assert facts.reserved[0] < found.total - states + facts.allocated // 2


def test_a_step_in_backward_has_one_gradient_at_a_time(mistral: Model) -> None:
    whole = train(mistral, optimizer="adamw-in-backward").estimate
    assert train(mistral, optimizer_in_backward=True).estimate.total == whole.total
    with pytest.raises(InvalidScenarioError):
        train(mistral, optimizer_in_backward=True, gradient_accumulation=2)


def test_zero_2_joins_its_gradients_before_it_widens_them() -> None:
    """deepspeed, runtime/zero/stage_1_and_2.py, step: `flatten(averaged_gradients).to(float32)`."""
    found = estimate("Qwen/Qwen2.5-3B-Instruct", train="full", zero=2, dp=2, offline=True).estimate
    (step,) = [phase for phase in found.phases if phase.name == "optimizer"]
    sizes = {term.name: term.nbytes for term in step.terms}
    assert sizes["flat gradients"] == 3_085_938_688  # 2 B of half the parameters
    assert sizes["float32 gradients"] == 2 * sizes["flat gradients"]
