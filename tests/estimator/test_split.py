"""One model of a split: what ranks hold together is the whole, and exactly what the rules repeat or pad."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfmem import Architecture, inspect
from hfmem.engines.transformers.split import RULES as TRANSFORMERS
from hfmem.engines.vllm.split import RULES as VLLM
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.split.check import check_split
from hfmem.estimator.split.ranks import rank_model
from hfmem.estimator.split.rules import SplitRules
from hfmem.estimator.split.share import Share, place_of
from hfmem.estimator.split.stages import stages
from hfmem.estimator.training.split import MEGATRON, TRAINER
from hfmem.mapper.caches import KV, State
from hfmem.mapper.values import Along, Component, Dense, Experts, Layer, TensorGroup, TensorPlan

ROWS: Final = {"transformers": TRANSFORMERS, "vllm": VLLM, "megatron": MEGATRON, "trainer": TRAINER}
every_row = pytest.mark.parametrize("rules", [pytest.param(row, id=name) for name, row in ROWS.items()])
model = cache(lambda name: inspect(name, offline=True))

HIDDEN, HEAD = 64, 16


def layer(heads: int, kv: int, ffn: Dense | Experts) -> Layer:
    cache_ = KV(heads=kv, key_dim=HEAD, value_dim=HEAD) if heads else State(conv=64, recurrent=64, channels=64)
    return Layer(kind="full_attention" if heads else "none", cache=cache_, heads=heads, ffn=ffn)


def group(
    component: Component, role: str, *shape: int, linear: bool = True, count: int = 1, along: Along = "whole"
) -> TensorGroup:
    elements = count
    for size in shape:
        elements *= size
    return TensorGroup(
        component=component,
        role=role,
        shape=shape,
        count=count,
        dtype="BF16",
        stored_bytes=2 * elements,
        parameters=elements,
        active=elements,
        linear=linear,
        along=along,
    )


def groups(architecture: Architecture) -> tuple[TensorGroup, ...]:
    """A tensor of every way to lie. Roles decide how attention is cut."""
    heads, kv, vocab = architecture.attention_heads or 1, architecture.kv_heads or 1, architecture.vocab_size or 1
    fused = (heads + 2 * kv) * HEAD
    return (
        group("embedding", "embed_tokens", vocab, HIDDEN, linear=False, along="rows"),
        group("embedding", "wpe", vocab + 1, HIDDEN, linear=False),
        group("lm_head", "lm_head", vocab, HIDDEN, linear=False, along="rows"),
        group("attention", "q_proj", heads * HEAD, HIDDEN, along="rows"),
        group("attention", "k_proj", kv * HEAD, HIDDEN),
        group("attention", "v_proj.bias", kv * HEAD, linear=False),
        group("attention", "qkv_proj", fused, HIDDEN),
        group("attention", "kv_a_proj_with_mqa", 32, HIDDEN),
        group("attention", "o_proj.bias", HIDDEN, linear=False),
        group("mlp", "up_proj", 250, HIDDEN, along="rows"),
        group("mlp", "down_proj.bias", HIDDEN, linear=False),
        group("experts", "gate_up_proj", 8, 250, HIDDEN, along="pairs"),
        group("experts", "gate_up_proj_bias", 8, 256, linear=False),
        group("router", "gate", 8, HIDDEN, linear=False),
        group("shared_experts", "down_proj", HIDDEN, 250, along="columns"),
        group("state", "in_proj", 256, HIDDEN),
        group("norm", "input_layernorm", HIDDEN, linear=False),
        group("vision", "fc1", 256, HIDDEN),
        group("vision", "patch_embed", 64, 3, 16, 16, linear=False),
        group("projector", "linear_1", HIDDEN, 256),
        group("mtp", "eh_proj", HIDDEN, 2 * HIDDEN, linear=False),
        group("other", "scale", HIDDEN, linear=False),
    )


ffns = st.sampled_from([Dense(intermediate=256, gated=True), Experts(count=8, per_token=2, intermediate=256)])


@st.composite
def splits(draw: st.DrawFn) -> tuple[Architecture, Parallel]:
    """A small model, some of whose layers have no attention, and a split that no rule refuses for its heads."""
    heads, kv = draw(st.sampled_from([(16, 16), (16, 8), (16, 2), (16, 1)]))
    kinds = draw(st.lists(st.tuples(st.booleans(), ffns), min_size=4, max_size=9))
    layers = tuple(layer(heads if attends else 0, kv, ffn) for attends, ffn in kinds)
    tp, pp, dp = (draw(st.sampled_from([1, 2, 4])) for _ in range(3))
    ep = draw(st.sampled_from([1, tp * dp])) if tp * dp <= 8 else 1
    architecture = Architecture(
        model_type="m",
        hidden_size=HIDDEN,
        vocab_size=draw(st.sampled_from([64, 100, 1000, 1001])),
        tied_embeddings=draw(st.booleans()),
        attention_heads=heads,
        kv_heads=kv,
        layers=layers,
        tensor_plan=TensorPlan(name="M", tensors=True, experts=True, heads=True, states=True, source="here"),
    )
    return architecture, Parallel(tp=tp, pp=pp, dp=dp, ep=ep)


def owners(architecture: Architecture, component: Component) -> int:
    """Layers that have such a part."""
    layers = architecture.layers or ()
    if component in ("experts", "router", "shared_experts"):
        return sum(isinstance(each.ffn, Experts) for each in layers)
    if component == "mlp":
        return sum(isinstance(each.ffn, Dense) for each in layers)
    if component == "attention":
        return sum(each.heads > 0 for each in layers)
    if component == "state":
        return sum(isinstance(each.cache, State) for each in layers)
    return len(layers)


def copies(tensor: TensorGroup, architecture: Architecture, plan: Parallel, rules: SplitRules) -> Fraction:
    """How many times all ranks together hold a tensor, from what the rules say that they repeat and pad."""
    stages_ = Fraction(1)
    place = place_of(tensor.component, rules)
    if plan.gpus > 1:
        tied = tensor.component == "embedding" and architecture.tied_embeddings and plan.pp > 1
        lost = place == "inside" and not owners(architecture, tensor.component) and rules.unowned == "whole"
        stages_ = Fraction(2 if tied else plan.pp if lost else 1)
    return stages_ * one_stage(tensor, architecture, plan, rules)


def one_stage(tensor: TensorGroup, architecture: Architecture, plan: Parallel, rules: SplitRules) -> Fraction:
    """How many times the ranks of one stage hold it."""
    component, role, once, repeated = tensor.component, tensor.role, Fraction(plan.dp), Fraction(plan.tp * plan.dp)
    if component == "experts" and (plan.ep > 1 or rules.replicas_share_experts):
        return Fraction(1)
    if rules.tensors == "planned":
        return plan.dp * planned(tensor, plan.tp)
    if component in ("embedding", "lm_head"):
        rows, padding = tensor.shape[0], rules.vocabulary_padding
        own = rules.embedding == "vocabulary" and rows == architecture.vocab_size
        shared = component == "lm_head" or rules.embedding == "all" or own
        return once * Fraction((rows + padding - 1) // padding * padding, rows) if shared else repeated
    if rules.tensors == "matrices":
        return once if tensor.linear else repeated
    if component == "vision":
        return once if rules.towers and role == "fc1" else repeated
    shared = component in ("attention", "mlp", "experts", "shared_experts", "state")
    return by_role(architecture, plan).get(role, once) if shared else repeated


def planned(tensor: TensorGroup, tp: int) -> Fraction:
    """How many times the ranks of one replica hold it, each taken as the first of them, which has the most."""
    if tensor.along == "whole":
        return Fraction(tp)
    size = {"rows": tensor.shape[0], "pairs": tensor.shape[-2] // 2, "columns": tensor.shape[-1]}[tensor.along]
    return Fraction(tp * len(range(0, size, tp)), size)  # every tp-th, of which the first has one more


def by_role(architecture: Architecture, plan: Parallel) -> dict[str, Fraction]:
    """What ranks repeat of the parts of layers: latents, biases of outputs, heads that are fewer than ranks."""
    heads, kv = architecture.attention_heads or 1, architecture.kv_heads or 1
    once, repeated = Fraction(plan.dp), Fraction(plan.tp * plan.dp)
    more = max(once, repeated / kv)
    fused = (heads * once + 2 * kv * more) / (heads + 2 * kv)
    whole = dict.fromkeys(("kv_a_proj_with_mqa", "o_proj.bias", "down_proj.bias"), repeated)
    return {"k_proj": more, "v_proj.bias": more, "qkv_proj": fused, **whole}


@every_row
@settings(max_examples=50)
@given(split=splits())
def test_ranks_hold_the_whole_and_what_the_rules_repeat(
    rules: SplitRules, split: tuple[Architecture, Parallel]
) -> None:
    architecture, plan = split
    found = stages(len(architecture.layers or ()), plan, rules)
    assert sorted(rank for stage in found for rank in stage.ranks) == list(range(plan.gpus))
    for tensor in groups(architecture):
        shares = (Share(architecture=architecture, plan=plan, stage=stage, rules=rules) for stage in found)
        held = sum((share.of(tensor) * len(share.stage.ranks) for share in shares), Fraction(0))
        assert held == copies(tensor, architecture, plan, rules), tensor.role


@every_row
@given(layers=st.integers(1, 200), pp=st.integers(1, 16))
def test_stages_share_the_layers(rules: SplitRules, layers: int, pp: int) -> None:
    found = stages(layers, Parallel(pp=pp), rules)
    assert [stage.start for stage in found] == [0, *(stage.end for stage in found[:-1])]
    assert found[-1].end == layers
    assert max(stage.depth for stage in found) - min(stage.depth for stage in found) <= 1
    assert [stage.index for stage in found if stage.first or stage.last] == sorted({0, pp - 1})


@pytest.mark.parametrize(
    ("rules", "layers", "pp", "sizes"),
    [
        (VLLM, 32, 1, [32]),
        (VLLM, 32, 4, [8, 8, 8, 8]),
        (VLLM, 33, 4, [8, 8, 9, 8]),  # vLLM 0.19.0, distributed/utils.py::get_pp_indices
        (VLLM, 34, 4, [8, 9, 9, 8]),
        (VLLM, 35, 4, [9, 9, 9, 8]),
        (TRANSFORMERS, 33, 4, [9, 8, 8, 8]),  # transformers 5.24.0, distributed/pipeline_parallel.py:109
        (TRANSFORMERS, 35, 4, [9, 9, 9, 8]),
        (MEGATRON, 33, 4, [8, 8, 8, 9]),
        (MEGATRON, 34, 4, [8, 9, 8, 9]),
    ],
)
def test_where_a_remainder_goes(rules: SplitRules, layers: int, pp: int, sizes: list[int]) -> None:
    assert [stage.depth for stage in stages(layers, Parallel(pp=pp), rules)] == sizes


@pytest.mark.parametrize(
    ("rules", "ranks"),
    [(VLLM, [(0, 1, 4, 5), (2, 3, 6, 7)]), (MEGATRON, [(0, 1, 2, 3), (4, 5, 6, 7)])],
)
def test_how_ranks_are_numbered(rules: SplitRules, ranks: list[tuple[int, ...]]) -> None:
    """vLLM 0.19.0 `initialize_model_parallel`: data × pipeline × tensor; Megatron Core: the order `tp-cp-ep-dp-pp`."""
    assert [stage.ranks for stage in stages(8, Parallel(tp=2, pp=2, dp=2), rules)] == ranks


@pytest.mark.parametrize(("rules", "nbytes"), [(MEGATRON, 1_509_949_440), (VLLM, 1_677_721_600)])
def test_few_key_value_heads_are_cut_or_repeated(rules: SplitRules, nbytes: int) -> None:
    """Attention of Llama-3.1-70B on 16 ranks: 80 layers × 2 B × 8192 × (2 × 8192 + 2 × 1024) / 16; a rank of vLLM has
    one of the 8 heads of keys and values whole."""
    found, plan = model("meta-llama/Llama-3.1-70B-Instruct"), Parallel(tp=16)
    (stage,) = stages(80, plan, rules)
    table = rank_model(found, plan, stage, rules).parameters
    assert table is not None
    assert 2 * sum(each.elements for each in table.groups if each.component == "attention") == nbytes


@pytest.mark.parametrize(
    ("name", "sizes", "accepted"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", {"tp": 8}, set(ROWS)),
        ("meta-llama/Llama-3.1-8B-Instruct", {"tp": 16}, {"vllm", "megatron"}),
        ("meta-llama/Llama-3.1-8B-Instruct", {"tp": 3}, set()),
        ("meta-llama/Llama-3.1-8B-Instruct", {"pp": 33}, set()),
        ("meta-llama/Llama-3.1-8B-Instruct", {"pp": 2}, {"transformers", "vllm", "megatron"}),
        ("meta-llama/Llama-3.1-8B-Instruct", {"dp": 2, "ep": 2}, {"vllm"}),
        ("openai-community/gpt2", {"tp": 2}, {"vllm", "megatron"}),
        ("Qwen/Qwen3-30B-A3B", {"dp": 4, "ep": 2}, {"megatron", "trainer"}),
        ("Qwen/Qwen3-30B-A3B", {"dp": 3, "ep": 3}, {"vllm"}),
        ("Qwen/Qwen3-30B-A3B", {"dp": 256, "ep": 256}, set()),
        ("Qwen/Qwen3-30B-A3B", {"tp": 4, "dp": 512}, {"transformers", "megatron", "trainer"}),
    ],
)
def test_what_each_row_accepts(name: str, sizes: dict[str, Any], accepted: set[str]) -> None:
    assert {row for row, rules in ROWS.items() if is_accepted(model(name).architecture, sizes, rules)} == accepted


@pytest.mark.parametrize(
    ("sizes", "accepted"),
    [({"tp": 2}, {"megatron"}), ({"dp": 2}, {"megatron", "trainer"}), ({"pp": 2}, set()), ({}, set(ROWS))],
)
def test_what_is_accepted_where_layers_are_not_known(sizes: dict[str, Any], accepted: set[str]) -> None:
    unknown = Architecture(model_type="m")
    assert {row for row, rules in ROWS.items() if is_accepted(unknown, sizes, rules)} == accepted


def is_accepted(architecture: Architecture, sizes: dict[str, Any], rules: SplitRules) -> bool:
    try:
        check_split(architecture, Parallel(**sizes), rules)
    except InvalidScenarioError:
        return False
    return True
