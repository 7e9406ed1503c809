"""Model states a GPU under ZeRO, FSDP and Megatron's distributed optimizer, against published figures."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem import Architecture, Model, Options, ParameterTable, Report, estimate
from hfmem.api import report_on
from hfmem.errors import InvalidScenarioError
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.blueprint import linear
from hfmem.mapper.caches import KV
from hfmem.mapper.values import Dense, Layer
from hfmem.scenario.check import check

LAYERS = 10


def model(parameters: int, hidden: int = 1000) -> Model:
    """A decoder of so many parameters, all of them in the matrices of its layers."""
    layer = Layer(
        kind="full_attention",
        cache=KV(heads=8, key_dim=125, value_dim=125),
        heads=8,
        ffn=Dense(intermediate=4 * hidden, gated=False),
    )
    return Model(
        checkpoint=Checkpoint(ref=ModelRef(model_id="m"), commit=None, source="local", provenance="", config=None),
        architecture=Architecture(model_type="m", hidden_size=hidden, layers=(layer,) * LAYERS, dtype="bfloat16"),
        parameters=ParameterTable(
            groups=tuple(linear("mlp", "fc", parameters // LAYERS // hidden, hidden, count=LAYERS))
        ),
        certainty="derived",
        source="",
        stored_dtype=None,
        file_bytes=None,
        notes=(),
    )


def states(options: Options, parameters: int = 7_500_000_000) -> int:
    """Weights, their copies, optimizer states and gradients on one GPU, at the optimizer's step."""
    report: Report = report_on(model(parameters), options)
    phase = next(phase for phase in report.estimate.phases if phase.name == "optimizer")
    return sum(phase.group(group) for group in ("weights", "master_weights", "optimizer", "gradients"))


@pytest.mark.parametrize(
    ("stage", "gb"),
    [(0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9)],  # arXiv 1910.02054, figure 1: 7.5 B parameters, 64 GPUs
)
def test_the_zero_paper(stage: int, gb: float) -> None:
    options = Options(train="full", precision="bf16-master", optimizer="adamw-fused", zero=stage, dp=64)
    assert round(states(options) / 1e9, 1) == gb


def test_zero_alone_means_float32_weights_beside_bf16_ones() -> None:
    assert states(Options(train="full", zero=3, dp=64)) == states(
        Options(train="full", precision="bf16-master", zero=3, dp=64)
    )


@pytest.mark.parametrize(("asked", "bytes_a_parameter"), [
    ({}, 16),  # as without a word on precision: accelerate.yaml's questions suggest mixed precision
    ({"precision": "trainer-bf16"}, 16),
    ({"precision": "trainer-fp16"}, 16),
    ({"precision": "trainer-no"}, 8),
    ({"precision": "bf16"}, 8),
])  # fmt: skip
def test_fsdp_keeps_what_it_trains_in_float32_under_mixed_precision(
    asked: dict[str, Any], bytes_a_parameter: float
) -> None:
    """accelerate 1.15, accelerator.py:1998-2037 (FSDP 1) and utils/fsdp_utils.py:814-820 (FSDP 2)."""
    assert states(Options(train="full", fsdp=True, dp=4, **asked), 10**9) == pytest.approx(
        bytes_a_parameter * 10**9 / 4
    )


@pytest.mark.parametrize(("options", "bytes_a_parameter"), [
    (Options(train="full", precision="bf16", fsdp=True, dp=4), 8 / 4),
    (Options(train="full", precision="fp32", fsdp=True, dp=4), 16 / 4),
    (Options(train="full", precision="fp32", fsdp=True, dp=8, shard=2), 16 / 2),
    (Options(train="full", precision="fp32", dp=4), 16),
    (Options(train="full", stack="megatron", dp=4), 18),
    (Options(train="full", stack="megatron", zero=1, dp=4), 6 + 12 / 4),  # Megatron Core docs, dist_optimizer.md
    (Options(train="full", stack="megatron", zero=1, dp=4, tp=2), (6 + 12 / 4) / 2),
    (Options(train="full", stack="megatron", pp=2), 18 / 2),
    (Options(train="full", precision="bf16", optimizer="sgd"), 4),
])  # fmt: skip
def test_bytes_a_parameter(options: Options, bytes_a_parameter: float) -> None:
    count = 1_000_000_000
    assert states(options, count) == pytest.approx(count * bytes_a_parameter, rel=1e-6)


def test_offload_moves_states_to_the_host() -> None:
    plain = report_on(model(10**9), Options(train="full", zero=2, dp=4)).estimate
    moved = report_on(model(10**9), Options(train="full", zero=2, dp=4, offload="optimizer")).estimate
    assert plain.training is not None
    assert moved.training is not None
    assert plain.training.host == 0
    assert moved.training.host == 12 * 10**9 // 4
    assert moved.total < plain.total


def test_stages_differ_and_the_most_loaded_is_shown() -> None:
    estimate = report_on(model(10**9), Options(train="full", stack="megatron", pp=5, batch=2, seq=512)).estimate
    assert [rank.ranks for rank in estimate.ranks] == [(0,), (1,), (2,), (3,), (4,)]
    totals = [rank.total for rank in estimate.ranks]
    assert totals == sorted(totals, reverse=True)  # the first holds the most micro-batches in flight
    assert estimate.total == totals[0]


@pytest.mark.parametrize(("options", "words"), [
    (Options(train="full", gpus=8, tp=3), "do not make"),
    (Options(train="full", gpus=8, tp=2, dp=2), "do not make"),
    (Options(train="full", dp=4, ep=3), "--ep"),
    (Options(train="full", zero=1, fsdp=True, dp=2), "mutually exclusive"),
    (Options(train="full", shard=3, fsdp=True, dp=4), "--shard"),
    (Options(train="full", offload="optimizer"), "--offload"),
    (Options(train="full", offload="parameters", zero=2, dp=2), "--zero 3"),
    (Options(train="full", sequence_parallel=True), "--tp"),
    (Options(train="full", virtual_stages=2), "--pp"),
    (Options(zero=2), "--train"),
    (Options(train="full", lora_rank=8), "lora"),
    (Options(train="lora", double_quant=True), "qlora"),
    (Options(train="full", dtype="nf4"), "qlora"),
    (Options(train="full", optimizer="adamz"), "adamw"),
    (Options(train="full", precision="fp7"), "bf16"),
    (Options(train="full", stack="keras"), "transformers-5"),
    (Options(train="lora", lora_dropout=1.5), "dropout"),
    (Options(train="full", freeze=("head",)), "--freeze"),
    (Options(train="full", dtype="float64"), "float32"),
    (Options(train="full", kv_dtype="float8_e4m3fn"), "no cache"),
    (Options(train="full", optimizer_rank=8), "galore"),
    (Options(train="full", optimizer="lion", optimizer_rank=8), "galore"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(options: Options, words: str) -> None:
    with pytest.raises(InvalidScenarioError, match=words):
        check(options)


@pytest.mark.parametrize(("name", "asked", "words"), [
    ("meta-llama/Llama-2-7b-hf", {"tp": 3}, "32 attention heads"),
    ("meta-llama/Llama-2-7b-hf", {"tp": 64}, "32 attention heads"),
    ("meta-llama/Llama-2-7b-hf", {"pp": 33, "stack": "megatron"}, "32 layers"),
    ("meta-llama/Llama-2-7b-hf", {"pp": 4, "virtual_stages": 9, "stack": "megatron"}, "32 layers"),
    ("meta-llama/Llama-2-7b-hf", {"dp": 2, "ep": 2}, "has none"),
    ("mistralai/Mixtral-8x7B-v0.1", {"dp": 16, "ep": 16}, "8 experts"),
])  # fmt: skip
def test_splits_that_the_sizes_do_not_allow_are_refused(name: str, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidScenarioError, match=words):
        estimate(name, train="full", offline=True, **asked)


def test_bare_gpus_are_data_parallel() -> None:
    report = report_on(model(10**9), Options(train="full", gpus=8))
    assert report.scenario.parallel.dp == 8


@pytest.mark.parametrize(
    ("name", "asked", "elements"),
    [
        (
            "meta-llama/Llama-3.1-70B-Instruct",
            {"zero": 3},
            10**9 + 128256 * 8192 / 8,
        ),  # a sub-group and its last tensor
        ("meta-llama/Llama-3.1-70B-Instruct", {"zero": 2}, 70_553_706_496 / 8),
        ("meta-llama/Llama-3.1-8B-Instruct", {"zero": 3, "dp": 16}, 8_030_261_248 / 16),
    ],
)
def test_zero_3_steps_one_sub_group_at_a_time(name: str, asked: dict[str, Any], elements: float) -> None:
    """deepspeed 0.19.6, runtime/zero/stage3.py:2629-2644; sub_group_size 1e9 (runtime/zero/config.py:175)."""
    found = estimate(name, train="full", precision="bf16-master", offline=True, **{"dp": 8, **asked})
    (step,) = [phase for phase in found.estimate.phases if phase.name == "optimizer"]
    (term,) = [term for term in step.terms if term.name == "float32 gradients"]
    assert term.nbytes == pytest.approx(4 * elements, rel=1e-9)
