"""Tensor parallelism in transformers goes by the plan of the class, in inference and in its Trainer."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from hfmem import estimate, inspect
from hfmem.engines.transformers.split import RULES
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.recipe.stacks import STACKS
from hfmem.estimator.split.ranks import rank_model
from hfmem.estimator.split.stages import stages
from hfmem.estimator.training.split import TRAINER, rules_of

FIXTURE: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "tensor_parallel.json"
RECORD: Final = json.loads(FIXTURE.read_text(encoding="utf-8"))["elements"]
LLAMA, MIXTURE, LATENT = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V3"
PLANLESS = ("google-t5/t5-large", "BAAI/bge-m3", "openai-community/gpt2", "stabilityai/stablelm-3b-4e1t")
model = cache(lambda name: inspect(name, offline=True))

# Two parts of one role: the adapter behind the vision tower is cut, the tower's own layers are not.
MIXED: Final = {"meta-llama/Llama-4-Scout-17B-16E-Instruct": 0.003}


def held(name: str, ranks: int) -> int:
    """Elements on the most loaded rank."""
    found, plan = model(name), Parallel(tp=ranks)
    (stage,) = stages(found.architecture.depth or 0, plan, RULES)
    table = rank_model(found, plan, stage, RULES).parameters
    assert table is not None
    return sum(group.elements for group in table.groups if group.loaded)


@pytest.mark.parametrize(("name", "ranks"), [(name, int(ranks)) for name, row in RECORD.items() for ranks in row])
def test_a_rank_holds_what_the_library_gives_it(name: str, ranks: int) -> None:
    """Element for element, buffers apart, which the record does not have and each rank holds."""
    buffers = held(name, 1) - RECORD[name]["1"]
    assert 0 <= buffers < 10_000
    assert held(name, ranks) - buffers == pytest.approx(RECORD[name][str(ranks)], rel=MIXED.get(name, 0), abs=0)


def test_the_embedding_is_shared() -> None:
    """transformers 5.24.0, distributed/mixin.py:92-94."""
    weights = estimate(model(LLAMA), tp=8).estimate.group("weights") or 0
    assert weights == 2 * RECORD[LLAMA]["8"]
    assert round(weights / 2**30, 2) == 1.87


@pytest.mark.parametrize(
    ("name", "shared"),
    [(LLAMA, True), ("microsoft/phi-4", False), (LATENT, False), ("ai21labs/AI21-Jamba-1.5-Mini", False)],
)
def test_a_cache_is_shared_where_the_projections_of_keys_stay_cut(name: str, shared: bool) -> None:
    """transformers 5.24.0, distributed/tensor_parallel.py:82-94 (get_kv_heads_per_rank): a gathered output, or none
    that is cut, leaves all heads on each rank."""
    alone, two = (estimate(model(name), tp=tp).estimate.group("kv_cache") or 0 for tp in (1, 2))
    assert two == (alone // 2 if shared else alone)


def test_units_need_not_divide_and_heads_need_to() -> None:
    """transformers 5.24.0, distributed/tensor_parallel.py:146: the last rank then holds a shorter slice."""
    assert estimate(model("allenai/OLMo-2-1124-7B"), tp=3).estimate.group("weights")
    with pytest.raises(InvalidScenarioError, match="32 attention heads"):
        estimate(model(LLAMA), tp=3)


@pytest.mark.parametrize("train", [None, "full"])
@pytest.mark.parametrize("name", PLANLESS)
def test_a_class_without_a_plan_is_refused(name: str, train: Any) -> None:
    with pytest.raises(InvalidScenarioError, match="has no tp_plan"):
        estimate(model(name), tp=2, train=train)


@pytest.mark.parametrize("name", ["google-t5/t5-large", "BAAI/bge-m3"])
def test_a_split_that_is_refused_is_not_advised(name: str) -> None:
    trained = estimate(model(name), train="full", gpu="RTX 3060", batch=64)
    assert trained.savings
    assert not [row.option for row in trained.savings if "--tp" in row.option]
    run = estimate(model(name), gpu="RTX 3060", batch=4096, seq=512)
    assert not [row.option for row in run.advice if "--tp" in row.option]


def test_a_type_of_no_table_has_no_plan_that_is_known() -> None:
    with pytest.raises(InvalidScenarioError, match="no tp_plan that is known"):
        estimate(model("baichuan-inc/Baichuan2-7B-Chat"), tp=2)


def test_what_vllm_splits_is_its_own_matter() -> None:
    assert estimate(model("openai-community/gpt2"), tp=2, runtime="vllm").scenario.parallel.tp == 2


def test_experts_without_a_plan_are_refused() -> None:
    with pytest.raises(InvalidScenarioError, match="has no ep_plan"):
        estimate(model("meta-llama/Llama-4-Scout-17B-16E-Instruct"), tp=2, ep=2)
    with pytest.raises(InvalidScenarioError, match="--ep 3 does not divide the model's 128 experts"):
        estimate(model(MIXTURE), dp=3, ep=3)  # distributed/expert_parallel.py, MoEParamShard


def test_a_stack_splits_as_its_software_does() -> None:
    asked: dict[str, Any] = {"train": "full", "tp": 8, "gradient_checkpointing": True}
    with pytest.raises(InvalidScenarioError, match="4 key/value heads"):
        estimate(model(MIXTURE), **asked)
    assert estimate(model(MIXTURE), **asked, stack="megatron").scenario.parallel.tp == 8
    options = [row.option for row in estimate(model(MIXTURE), train="full", gpu="H100").savings]
    assert options
    assert not [option for option in options if "--tp" in option]
    assert any("--tp 8" in row.option for row in estimate(model(LLAMA), train="full", gpu="H100").savings)


@pytest.mark.parametrize("size", ["tp", "pp", "ep", "cp"])
@pytest.mark.parametrize(
    "stack", [row for row in STACKS if not row.name.startswith("megatron")], ids=lambda row: row.name
)
def test_what_a_stack_cannot_split_by_is_refused(stack: Any, size: str) -> None:
    if size in rules_of(stack).sizes:
        assert rules_of(stack) is TRAINER
        return
    with pytest.raises(InvalidScenarioError, match=f"--{size} 2: .* does not support it"):
        estimate(model(MIXTURE), train="full", stack=stack.name, **({size: 2} | ({"dp": 2} if size == "ep" else {})))


def test_the_trainer_shares_the_weights_as_inference_does() -> None:
    asked: dict[str, Any] = {"train": "full", "precision": "bf16", "dtype": "bfloat16", "seq": 64}
    weights = estimate(model(LLAMA), tp=8, **asked).estimate.group("weights")
    assert weights == 2 * RECORD[LLAMA]["8"]
