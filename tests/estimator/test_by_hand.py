"""Single terms of a training step, each against arithmetic that is done by hand from its source."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import pytest

from hfmem import Model, Options, inspect
from hfmem.api import report_on
from hfmem.estimator.training.gpu import gpus
from hfmem.mapper.values import Dense, Experts
from tests.estimator.test_sharding import LAYERS
from tests.estimator.test_sharding import model as matrices

MISTRAL, MIXTRAL = "mistralai/Mistral-7B-v0.1", "mistralai/Mixtral-8x7B-v0.1"
bundled = cache(lambda name: inspect(name, offline=True))
COUNT = 10**9
ONE = COUNT // LAYERS
"""Elements of the one matrix of each layer of `matrices(COUNT)`."""


def terms(model: Model, phase: str, **asked: Any) -> dict[str, int]:
    """Bytes of the terms of a phase by name."""
    found = report_on(model, Options(train=asked.pop("train", "full"), **asked)).estimate
    (wanted,) = [each for each in found.phases if each.name == phase]
    return {term.name: term.nbytes for term in wanted.terms}


@pytest.mark.parametrize(("asked", "ranks"), [
    ({}, 1), ({"tp": 2}, 2), ({"dp": 4, "fsdp": True}, 4), ({"dp": 4, "zero": 1}, 1),
])  # fmt: skip
def test_fp8_keeps_two_copies_of_a_byte(asked: dict[str, Any], ranks: int) -> None:
    """Transformer Engine, FP8 primer: FP8 GEMMs take both operands in one layout, so that a weight is kept as it is and
    transposed, each in one byte an element."""
    found = terms(matrices(COUNT), "optimizer", precision="fp8", stack="megatron", **asked)
    assert found["FP8 copies"] == (COUNT + COUNT) // ranks


@pytest.mark.parametrize(("asked", "ranks"), [({}, 1), ({"cp": 2}, 2), ({"cp": 2, "tp": 2}, 4)])
def test_tokens_go_to_experts_and_come_back(asked: dict[str, Any], ranks: int) -> None:
    """Megatron Core, token_dispatcher.py (alltoall): the permuted tokens that are sent, and those of other ranks that
    are received, which are as many where routing is even. Mixtral sends each to 2 experts: 2 × 4096 × 2 B a token."""
    found = terms(bundled(MIXTRAL), "backward", stack="megatron", batch=2, seq=2048, dp=4, ep=4, **asked)
    sent = 2 * 2048 // ranks * 2 * 4096 * 2
    assert found["tokens of other ranks' experts"] == sent + sent


def test_nothing_is_exchanged_on_one_rank() -> None:
    found = terms(bundled(MIXTRAL), "backward", stack="megatron", batch=2, seq=2048)
    assert not {"tokens of other ranks' experts", "keys and values of other ranks"} & found.keys()


@pytest.mark.parametrize(("asked", "ranks"), [({"cp": 4}, 4), ({"cp": 2}, 2), ({"cp": 2, "tp": 2}, 4)])
def test_ring_attention_holds_four_blocks(asked: dict[str, Any], ranks: int) -> None:
    """arXiv 2310.01889, 3: besides those of query and output, a host stores "two blocks for the current key and value"
    and two that it receives them in. Mistral's keys have 8 heads of 128, in 2 B."""
    found = terms(bundled(MISTRAL), "backward", batch=2, seq=4096, **asked)
    block = 2 * 4096 // ranks * 8 * 128 * 2
    assert found["keys and values of other ranks"] == 4 * block


@pytest.mark.parametrize("precision", ["autocast-bf16", "autocast-fp16"])
def test_autocast_keeps_a_copy_in_16_bits(precision: str) -> None:
    """docs.pytorch.org/docs/stable/amp.html: a weight is cast once, and its copy of 2 B an element is cached until
    autocast ends; a checkpointed layer casts its own anew, in the backward pass."""
    assert terms(matrices(COUNT), "logits", precision=precision, seq=64)["cast weights"] == 2 * COUNT
    layer = 2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096
    assert terms(bundled(MISTRAL), "logits", precision=precision, seq=64, tp=4)["cast weights"] == 2 * 32 * layer // 4
    asked: dict[str, Any] = {"precision": precision, "seq": 4096, "batch": 8, "optimizer": "sgd"}
    again = terms(matrices(COUNT), "backward", gradient_checkpointing=True, **asked)
    assert again["cast weights"] == 2 * ONE


def test_a_checkpointed_layer_has_its_own_casts_alone() -> None:
    """aten/src/ATen/autocast_mode.cpp: the outermost autocast context clears the cache where it ends, which is before
    the backward pass; torch/utils/checkpoint.py computes a layer anew in a context of its own. With gradients carried
    over, the last layer's backward is the highest: all inputs are there. Its casts are no more than another's."""
    asked: dict[str, Any] = {"precision": "autocast-bf16", "seq": 64, "gradient_accumulation": 2}
    found = terms(matrices(COUNT), "backward", gradient_checkpointing=True, **asked)
    assert found[f"the inputs of {LAYERS - 1} layers"] == (LAYERS - 1) * 64 * 1000 * 4
    assert found["cast weights"] == 2 * ONE
    assert terms(matrices(COUNT), "logits", gradient_checkpointing=True, **asked)["cast weights"] == 2 * COUNT


@pytest.mark.parametrize("precision", ["bf16", "fp32", "bf16-autocast"])
def test_nothing_is_cast_where_weights_are_in_the_compute_dtype(precision: str) -> None:
    assert "cast weights" not in terms(matrices(COUNT), "logits", precision=precision, seq=64)


@pytest.mark.parametrize(
    ("count", "asked", "elements", "width"),
    [
        (COUNT, {"zero": 2}, 500_000_000, 2),
        (COUNT, {"zero": 1}, 500_000_000, 2),
        (COUNT, {"zero": 2, "precision": "fp32"}, 500_000_000, 4),
        (100_000_000, {"zero": 2}, 100_000_000, 2),
    ],
)
def test_the_bucket_of_zero(count: int, asked: dict[str, Any], elements: int, width: int) -> None:
    """deepspeed runtime/zero/config.py: reduce_bucket_size is 5e8 elements, in the dtype of the gradients."""
    assert terms(matrices(count), "backward", dp=4, seq=64, **asked)["bucket"] == elements * width


def test_zero_3_holds_one_layer_of_weights_and_gradients() -> None:
    """deepspeed docs, memory.rst: largest_layer_memory = 4 × largest_layer_params."""
    assert terms(matrices(COUNT), "backward", dp=4, zero=3, seq=64)["gathered layer"] == 4 * ONE


@pytest.mark.parametrize("asked", [{"dp": 2}, {"cp": 2}])
def test_a_copy_of_every_gradient(asked: dict[str, Any]) -> None:
    """docs.pytorch.org, DistributedDataParallel: buckets are as large as the gradients; ranks of a sequence reduce
    theirs too."""
    assert terms(matrices(COUNT), "backward", precision="bf16", seq=64, **asked)["buckets"] == 2 * COUNT


@pytest.mark.parametrize("precision", ["bf16", "autocast-bf16"])
def test_units_of_fsdp(precision: str) -> None:
    """docs.pytorch.org, FullyShardedDataParallel: BACKWARD_PRE holds two units, in the dtype that is computed in; the
    root stays; a unit's gradients are whole before they are shared. Of Mistral, norms are counted with the layers."""
    layer = 2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096 + Fraction(65, 32) * 4096
    asked: dict[str, Any] = {"precision": precision, "dp": 4, "fsdp": True, "seq": 64}
    found = terms(bundled(MISTRAL), "backward", **asked)
    assert found["gathered root"] == 2 * 32000 * 4096 * 2
    assert found["gathered units"] == 2 * 2 * layer
    assert found["gradients to be shared"] == (2 if precision == "bf16" else 4) * layer
    assert terms(bundled(MISTRAL), "logits", **asked)["gathered unit"] == 2 * layer


@pytest.mark.parametrize(
    ("asked", "nbytes"),
    [
        ({"precision": "fp32"}, 12 * ONE),
        ({"precision": "bf16"}, 6 * ONE),
        ({"precision": "bf16", "zero": 1, "dp": 4}, 6 * ONE // 4),
        ({"precision": "bf16", "fsdp": True, "dp": 4}, 6 * ONE // 4),
    ],
)
def test_one_tensor_at_a_time(asked: dict[str, Any], nbytes: int) -> None:
    """torch.optim, foreach=False: three tensors like the one that is stepped on; of it, a rank has its share."""
    found = terms(matrices(COUNT), "optimizer", optimizer="adamw-single", seq=64, **asked)
    assert found["optimizer's update"] == nbytes


@pytest.mark.parametrize("optimizer", ["apollo", "apollo-mini"])
@pytest.mark.parametrize(("precision", "width"), [("fp32", 4), ("bf16", 2)])
def test_one_tensor_of_apollo(optimizer: str, precision: str, width: int) -> None:
    """apollo_torch/apollo.py: the gradient scaled by channel or tensor, and the update that is made of it."""
    found = terms(matrices(COUNT), "optimizer", optimizer=optimizer, precision=precision, seq=64)
    assert found["optimizer's update"] == (width + width) * ONE


@pytest.mark.parametrize(
    ("optimizer", "precision", "each"),
    [
        ("adafactor", "fp32", 4 + 4 + 4),
        ("adafactor", "bf16", 4 + 4 + 4 + 4 + 4),
        ("adafactor-beta1", "fp32", 4 + 4),
        ("adafactor-beta1", "bf16", 4 + 4 + 4 + 4),
    ],
)
def test_one_tensor_of_adafactor(optimizer: str, precision: str, each: int) -> None:
    """transformers 5.24 optimization.py, Adafactor.step: the squared gradient and its sum with eps in float32, beside
    what the tensor before it was updated by, unless that is its momentum; in 16 bits, copies of tensor and gradient."""
    found = terms(matrices(COUNT), "optimizer", optimizer=optimizer, precision=precision, seq=64)
    assert found["optimizer's update"] == each * ONE


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [5, 4, 3, 2, 1]),
        ({"gradient_accumulation": 3}, [3, 3, 3, 2, 1]),
        ({"gradient_accumulation": 16}, [5, 4, 3, 2, 1]),
        ({"gradient_accumulation": 16, "virtual_stages": 2}, [7, 6, 5, 4, 3]),
        ({"gradient_accumulation": 4, "virtual_stages": 2}, [4, 4, 4, 4, 3]),
    ],
)
def test_micro_batches_in_flight(asked: dict[str, Any], expected: list[int]) -> None:
    """1F1B (arXiv 2104.04473, 2.2): the stage i of p has p - i micro-batches in flight, if a step has as many.
    Megatron's schedules.py, with v pieces a stage: 2 (p - i - 1) + (v - 1) p warm-up pieces, and one more in the steady
    state."""
    whole = matrices(COUNT)
    report = report_on(whole, Options(train="full", stack="megatron", pp=5, seq=64, **asked))
    assert [gpu.in_flight for gpu in gpus(whole, report.scenario)] == expected


def test_replicas_of_an_expert_are_fewer() -> None:
    """Megatron Core: 8 × 2 ranks of which 4 share the experts leave 4 replicas of each, over which its optimizer is
    spread; the rest is spread over 8."""
    whole = bundled(MIXTRAL)
    report = report_on(whole, Options(train="full", stack="megatron", dp=8, tp=2, ep=4, zero=1, seq=64))
    (gpu,) = gpus(whole, report.scenario)
    assert [gpu.over(part, 1) for part in ("experts", "attention")] == [4, 8]
    assert [gpu.over(part, 2) for part in ("experts", "attention")] == [1, 1]


@pytest.mark.parametrize(("batch", "seq", "chunk"), [(4, 4096, 2048), (1, 100, 16), (1, 5, 1), (1, 8193, 2048)])
def test_pieces_of_a_fused_loss(batch: int, seq: int, chunk: int) -> None:
    """liger-kernel ops/fused_linear_cross_entropy.py: inc_factor = cdiv(V, H), chunk_size =
    next_power_of_2(cdiv(BT, inc_factor)); logits of one piece in 2 B, and the gradient of the hidden states. 32,000
    words and 4,096 units make 8 pieces."""
    found = terms(bundled(MISTRAL), "logits", batch=batch, seq=seq, fused_loss=True)
    assert found["logits and loss"] == chunk * 32000 * 2 + batch * seq * 4096 * 2


def test_dora_has_a_magnitude_an_output() -> None:
    """peft tuners/lora/dora.py: `weight_m` has out_features; k_proj of Mistral has 4,096 inputs and 1,024 outputs."""
    asked: dict[str, Any] = {"train": "lora", "lora_rank": 16, "lora_targets": ("k_proj",), "seq": 64}
    plain, dora = (terms(bundled(MISTRAL), "optimizer", dora=dora, **asked)["adapters"] for dora in (False, True))
    assert plain == 32 * 16 * (4096 + 1024) * 4
    assert dora - plain == 32 * 1024 * 4


@pytest.mark.parametrize(
    ("asked", "per_unit", "per_score"),
    [
        ({}, Fraction(34), Fraction(5)),
        ({"tp": 4}, 10 + Fraction(24, 4), Fraction(5, 4)),
        ({"tp": 4, "sequence_parallel": True}, Fraction(34, 4), Fraction(5, 4)),
        ({"tp": 4, "sequence_parallel": True, "attention": "sdpa"}, Fraction(34, 4), Fraction(0)),
        ({"gradient_checkpointing": True}, Fraction(2), Fraction(0)),
        ({"gradient_checkpointing": True, "tp": 4, "sequence_parallel": True}, Fraction(2, 4), Fraction(0)),
    ],
)
def test_the_table_of_megatron(asked: dict[str, Any], per_unit: Fraction, per_score: Fraction) -> None:
    """Korthikanti et al., arXiv 2205.05198, table 2: sbh (10 + 24/t + 5as/(ht)) bytes a layer, all over t with sequence
    parallelism; 2sbh where a layer is computed anew. Without the scores, section 5's selective recomputation."""
    batch, seq, hidden, heads = 2, 512, 1000, 8
    whole = matrices(COUNT)
    found = terms(whole, "logits", stack="megatron", batch=batch, seq=seq, **{"attention": "eager", **asked})
    (saved,) = [nbytes for name, nbytes in found.items() if name.endswith(f" {LAYERS} layers")]
    assert saved == LAYERS * (seq * batch * hidden * per_unit + per_score * heads * seq**2 * batch)


def test_experts_in_megatron() -> None:
    """By the same counting: 10 H around; fused q, k, v of 4,096 and twice 1,024, queries copied for grouped keys, the
    output; each of two experts a copy of its tokens and its output, and three times its units."""
    found = terms(bundled(MIXTRAL), "logits", stack="megatron", seq=512)
    (saved,) = [nbytes for name, nbytes in found.items() if name.endswith(" 32 layers")]
    attention = 2 * (4096 + 2 * 1024) + 2 * 4096 + 2 * 4096
    assert saved == 32 * 512 * (10 * 4096 + attention + 2 * (4 * 4096 + 6 * 14336))


@pytest.mark.parametrize(
    ("name", "asked", "more"),
    [
        ("Qwen/Qwen3-0.6B", {}, 1 + 1),
        ("Qwen/Qwen3-0.6B", {"gradient_accumulation": 2}, 1 + 1 + 1),
        (MISTRAL, {}, 0),
        (MISTRAL, {"gradient_accumulation": 2}, 1),
    ],
)
def test_gradients_of_an_embedding_meet_at_the_end(name: str, asked: dict[str, Any], more: int) -> None:
    """PyTorch 2.13, torch.profiler with profile_memory, of an embedding and a head: where they are one, the gradients
    of both and their sum are there at once, and an earlier micro-batch's that the sum is added to; where they are two,
    each has its own. Qwen3-0.6B has 151,936 words of 1,024 in 596,049,920 parameters, Mistral 32,000 of 4,096 in
    7,241,732,096."""
    count, matrix = (596_049_920, 151_936 * 1024) if name != MISTRAL else (7_241_732_096, 32_000 * 4096)
    report = report_on(
        bundled(name), Options(train="full", precision="bf16", seq=64, gradient_checkpointing=True, **asked)
    )
    (backward,) = [phase for phase in report.estimate.phases if phase.name == "backward"]
    assert backward.group("gradients") == 2 * (count + more * matrix)


@pytest.mark.parametrize(("precision", "each"), [("bf16", 4 + 2), ("fp32", 4 + 4)])
def test_scores_that_are_written_out(precision: str, each: int) -> None:
    """`eager_attention_forward` of transformers: float32 probabilities for the softmax, and those that are multiplied
    with the values."""
    written, fused = (
        terms(matrices(COUNT), "logits", precision=precision, batch=2, seq=512, attention=attention)
        for attention in ("eager", "sdpa")
    )
    name = f"saved by {LAYERS} layers"
    assert written[name] - fused[name] == LAYERS * each * 8 * 2 * 512**2


def test_scales_are_not_sharded() -> None:
    """FSDP shards parameters, which bitsandbytes' scales are not: half a byte an element over four ranks, and a float32
    a block of 64 and a table of 16 float32 a matrix on each."""
    found = terms(bundled(MISTRAL), "optimizer", train="qlora", lora_targets="all-linear", dp=4, fsdp=True, seq=64)
    mlp = 32 * 3 * 14336 * 4096
    assert found["mlp (nf4)"] == mlp // 2 // 4 + mlp // 64 * 4 + 32 * 3 * 16 * 4


@pytest.mark.parametrize("tp", [1, 2])
def test_the_matrix_that_is_multiplied_is_unpacked(tp: int) -> None:
    """bitsandbytes autograd/_functions.py, MatMul4Bit.backward: `dequantize_4bit` of one matrix into the compute dtype;
    14,336 × 4,096 in 2 B, of which ranks have a part."""
    asked: dict[str, Any] = {"train": "qlora", "lora_targets": ("q_proj",), "seq": 64, "tp": tp}
    found = terms(bundled(MISTRAL), "backward", **asked)["unpacked matrix"]
    assert (found, type(found)) == (14336 * 4096 * 2 // tp, int)


def test_the_other_micro_batches_hold_what_this_one_does() -> None:
    """1F1B: of five stages the first has five micro-batches in flight, each with all that its two layers save. By
    table 2 of arXiv 2205.05198, without the two dropout masks and the embedding's: 32sbh a layer."""
    found = terms(matrices(COUNT), "logits", stack="megatron-no-dropout", pp=5, batch=2, seq=512)
    saved = 2 * 512 * 2 * 1000 * 32
    assert found["saved by 2 layers"] == saved
    assert found["other micro-batches in flight"] == 4 * saved


@pytest.mark.parametrize(("tp", "words"), [(1, 32000), (4, 8000)])
def test_ranks_share_the_logits_of_megatron(tp: int, words: int) -> None:
    """megatron/core/tensor_parallel/cross_entropy.py: each rank has its part of the words, in 2 B and as float32."""
    found = terms(bundled(MISTRAL), "logits", stack="megatron", batch=2, seq=512, tp=tp)
    assert found["logits and loss"] == 2 * 512 * words * (2 + 4)


def decoder(ffn: Dense | Experts, vocabulary: int = 0) -> Model:
    """`matrices` with other networks, and a head over so many words: a type that nobody measured."""
    whole = matrices(COUNT)
    (layer, *_) = whole.architecture.layers or ()
    layers = (replace(layer, ffn=ffn),) * LAYERS
    changed = replace(whole.architecture, layers=layers, head="lm_head" if vocabulary else "none")
    return replace(whole, architecture=replace(changed, vocab_size=vocabulary or None))


def test_what_routing_saves() -> None:
    """modeling_mixtral.py: float32 scores of all experts; of each expert that a token uses, its copy of the token and
    what it puts out, in 2 B. Two experts of 1,000 units save what a network of 2,000 does besides."""
    routed = Experts(count=8, per_token=2, intermediate=1000)
    name, asked = f"saved by {LAYERS} layers", {"precision": "bf16", "batch": 2, "seq": 512}
    some, all_ = (
        terms(decoder(ffn), "logits", **asked)[name] for ffn in (routed, Dense(intermediate=2000, gated=True))
    )
    assert some - all_ == LAYERS * 2 * 512 * (4 * 8 + 2 * (2 + 2) * 1000)


def test_what_a_word_costs_in_the_loss() -> None:
    """torch cross_entropy in float32: the log-softmax, its gradient, and the gradient of the logits that it was of."""
    asked = {"precision": "bf16", "batch": 2, "seq": 512}
    ffn = Dense(intermediate=4000, gated=False)
    few, many = (terms(decoder(ffn, words), "logits", **asked)["logits and loss"] for words in (5000, 6000))
    assert many - few == 2 * 512 * 1000 * (4 + 4 + 4)


@pytest.mark.parametrize(("tp", "asked"), [(4, {}), (4, {"sequence_parallel": True}), (2, {})])
def test_what_lies_on_each_rank(tp: int, asked: dict[str, Any]) -> None:
    """arXiv 2205.05198, 4.2: what the norms of a layer read and hand on is not shared by tensor parallelism alone:
    the 16 bytes a hidden unit that the closed form of a layer with two RMSNorms begins with."""
    name, shape = "saved by 32 layers", {"precision": "bf16", "batch": 2, "seq": 512}
    alone = terms(bundled(MISTRAL), "logits", **shape)[name] // 32
    shared = terms(bundled(MISTRAL), "logits", tp=tp, **shape, **asked)[name] // 32
    norms = 0 if asked else 16 * 2 * 512 * 4096
    assert shared == norms + (alone - norms) // tp


@pytest.mark.parametrize(("optimizer", "lists"), [("adamw", 1), ("ademamix", 2), ("adamw-fused", 0), ("sgd", 0)])
def test_lists_of_an_optimizer(optimizer: str, lists: int) -> None:
    """torch.optim, foreach: `_foreach_sqrt` makes a list as large as a moment; AdEMAMix makes a second
    one of updates; a fused or in-place step makes none."""
    found = terms(matrices(COUNT), "optimizer", precision="bf16", optimizer=optimizer, seq=64)
    assert found.get("optimizer's list", 0) == lists * 2 * COUNT


@pytest.mark.parametrize(("train", "each"), [("full", 2 * 4), ("lora", 2 * 3)])
def test_what_a_unit_costs_by_the_closed_form(train: str, each: int) -> None:
    """modeling_llama.py, LlamaMLP in bf16: the outputs of gate and up, of the activation function, and the product,
    which only `down_proj` saves to train its own weights, and a frozen one does not: 2 B each."""
    name, asked = f"saved by {LAYERS} layers", {"train": train, "precision": "bf16", "batch": 2, "seq": 512}
    asked |= {"lora_targets": ("fc",)} if train == "lora" else {}
    few, many = (
        terms(decoder(Dense(intermediate=units, gated=True)), "logits", **asked)[name] for units in (4000, 5000)
    )
    assert many - few == LAYERS * 2 * 512 * 1000 * each


@pytest.mark.parametrize(("precision", "width"), [("bf16", 2), ("fp32", 4)])
def test_what_a_unit_costs_in_the_backward_pass(precision: str, width: int) -> None:
    """Beside what the layer saved of it, the gradients of three inner tensors: of the product, of the factor from `up`,
    and of what `silu` puts out."""
    asked = {"precision": precision, "batch": 2, "seq": 512}
    few, many = (
        terms(decoder(Dense(intermediate=units, gated=True)), "backward", **asked)["backward of one layer"]
        for units in (4000, 5000)
    )
    assert many - few == 2 * 512 * 1000 * (4 + 3) * width


@pytest.mark.parametrize(
    ("stack", "checkpointing", "left"),
    [("transformers-4.48", True, 30), ("transformers-4.48", False, 0), ("transformers-5", True, 0)],
)
def test_hooks_of_frozen_units_hold_what_layers_done_left(stack: str, checkpointing: bool, left: int) -> None:
    """torch fsdp/_runtime_utils.py, hooks of units without trained parameters, on inputs that a reentrant checkpoint
    detaches: at the backward of Mistral's first layer, the inputs of the 31 after it and gradients of 30 of them stay;
    what is not detached goes, and so does what nothing computes anew."""
    asked: dict[str, Any] = {"train": "lora", "dp": 2, "fsdp": True, "batch": 2, "seq": 4096, "precision": "bf16"}
    found = terms(bundled(MISTRAL), "backward", stack=stack, gradient_checkpointing=checkpointing, **asked)
    state = 2 * 4096 * 4096 * 2
    assert found.get("left by the layers done", 0) == (left and (31 + 30) * state)


def test_experts_of_litgpt_keep_the_units_of_each_that_a_token_uses() -> None:
    """litgpt model.py, LLaMAMLP, frozen: silu's input and output and the other factor, in 2 B. Of Mixtral's, each token
    uses two; Mistral's is one of them."""
    asked: dict[str, Any] = {"train": "lora", "lora_targets": ("q_proj",), "precision": "bf16", "stack": "litgpt"}
    one, two = (terms(bundled(name), "logits", seq=512, **asked)["saved by 32 layers"] for name in (MISTRAL, MIXTRAL))
    assert two - one == 32 * 512 * 3 * 2 * 14336


@pytest.mark.parametrize(("precision", "casts"), [("bf16", 0), ("autocast-bf16", 10)])
def test_the_closed_form_of_a_gated_layer(precision: str, casts: int) -> None:
    """As its module tells: 16 bytes a hidden unit, 4 a query unit and 4 of keys and values, 8 a feed-forward unit,
    log-sum-exps of 8 heads in float32, and two numbers of the norms. Under autocast the stream is float32 and five of
    its tensors are cast, of 2 B each."""
    found = terms(decoder(Dense(intermediate=2000, gated=True)), "logits", precision=precision, batch=2, seq=512)
    a_token = (16 + casts) * 1000 + 4 * 1000 + 4 * 1000 + 8 * 2000 + 4 * 8 + 2 * 4
    assert found[f"saved by {LAYERS} layers"] == LAYERS * 2 * 512 * a_token


@pytest.mark.parametrize(
    ("stack", "accumulation", "units"),
    [("litgpt", 1, 1), ("litgpt", 2, 1), ("litgpt-longest-first", 1, 1), ("litgpt-longest-first", 2, 0)],
)
def test_gradients_before_they_are_shared(stack: str, accumulation: int, units: int) -> None:
    """torch FullyShardedDataParallel: a unit of frozen and trained weights has one gradient, of all of them, until it
    is shared. litgpt finetune/lora.py under no_sync: those of its first step are the ones that stay. A unit of
    Mistral's is a layer in 2 B, its adapters apart."""
    asked: dict[str, Any] = {"train": "lora", "lora_targets": ("q_proj",), "dp": 2, "fsdp": True, "precision": "bf16"}
    asked |= {"gradient_checkpointing": True, "seq": 512, "gradient_accumulation": accumulation}
    found = terms(bundled(MISTRAL), "backward", stack=stack, **asked)
    layer = 2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096 + Fraction(65, 32) * 4096
    assert found.get("gradients to be shared", 0) == units * 2 * layer
