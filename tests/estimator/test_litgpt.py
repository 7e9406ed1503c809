"""LitGPT: what layers keep and what the loop holds, against the same code run on fake tensors."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem import Options
from hfmem.api import report_on
from hfmem.estimator.values import Phase
from tests.measured.training import model

_QV, _ALL = ("q_proj", "v_proj"), ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def logits_phase(name: str, options: Options) -> Phase:
    """Head and loss."""
    return next(phase for phase in report_on(model(name), options).estimate.phases if phase.name == "logits")


def options(train: str, *, stack: str = "litgpt-longest-first", batch: int = 1, **more: Any) -> Options:
    """512 tokens, adapters of rank 32 in bf16 on query and value."""
    settings = {"lora_targets": _QV, "lora_rank": 32, "lora_dropout": 0.05, "seq": 512, **more}
    return Options(
        train=train,
        stack=stack,
        batch=batch,
        precision="bf16",
        lora_dtype="bfloat16",
        **settings,
    )


@pytest.mark.parametrize(
    ("name", "train", "more", "per_token"),
    [  # litgpt 0.5.3: the difference of 3 and 2 layers in live bytes after the forward pass, over 512 tokens
        ("meta-llama/Llama-2-7b-hf", "lora", {}, 177_096),
        ("meta-llama/Llama-2-7b-hf", "qlora", {}, 223_688),
        ("meta-llama/Meta-Llama-3-8B", "lora", {}, 174_488),
        ("meta-llama/Meta-Llama-3-8B", "qlora", {}, 227_736),
        ("meta-llama/Meta-Llama-3-8B", "lora", {"lora_targets": _ALL, "lora_dropout": 0.0}, 205_448),
        ("meta-llama/Meta-Llama-3-8B", "qlora", {"lora_targets": _ALL, "lora_dropout": 0.0}, 205_448),
        ("google/gemma-7b", "qlora", {"lora_targets": _ALL, "lora_dropout": 0.1, "lora_rank": 16}, 404_824),
        ("google/gemma-2-9b", "qlora", {"lora_targets": _ALL, "lora_dropout": 0.1, "attention": "eager"}, 372_576),
        ("tiiuae/falcon-7b", "qlora", {"lora_targets": ("query_key_value",)}, 159_912),
        ("stabilityai/stablelm-base-alpha-3b", "qlora", {"lora_targets": ("query_key_value",)}, 176_424),
    ],
)
def test_what_a_layer_keeps(name: str, train: str, more: dict[str, object], per_token: int) -> None:
    phase = logits_phase(name, options(train, **more))
    kept = sum(term.nbytes for term in phase.terms if term.name.startswith("saved by"))
    depth = len(model(name).architecture.layers or ())
    assert kept / depth / 512 == pytest.approx(per_token, rel=0.01)


def logits(name: str, settings: Options) -> int:
    """Head and loss beyond what layers keep."""
    return next(term.nbytes for term in logits_phase(name, settings).terms if term.name == "logits and loss")


def test_the_moments_of_head_and_loss() -> None:
    name, vocabulary, hidden = "meta-llama/Llama-2-7b-hf", 32_000, 4_096
    tokens = 1_024
    assert logits(name, options("lora", batch=2)) == 8 * vocabulary * (tokens + 256)
    assert logits(name, options("qlora", batch=2)) == 6 * vocabulary * tokens + 4 * vocabulary * hidden
    assert logits(name, options("lora", stack="litgpt", batch=2)) == 10 * vocabulary * tokens


def test_inputs_of_the_previous_step_stay_where_matrices_are_nf4() -> None:
    name, hidden, units, tokens = "meta-llama/Llama-2-7b-hf", 4_096, 11_008, 1_024
    inputs = tokens * (32 * 2 * (3 * hidden + units) + 2 * hidden)
    heads = 4 * 32_000 * tokens + 2 * 32_000 * (tokens - 256) + 4 * 32_000 * hidden
    assert logits(name, options("qlora", stack="litgpt", batch=2)) == inputs + heads


def test_head_and_embedding_are_two_tensors() -> None:
    name = "meta-llama/Llama-3.2-3B-Instruct"
    phase = logits_phase(name, options("lora"))
    sizes = {term.name: term.nbytes for term in phase.terms if term.group == "weights"}
    assert sizes["lm_head"] == sizes["embedding"] == 2 * 128_256 * 3_072
    report = report_on(model(name), options("lora", stack="transformers-4.48"))
    assert not any(term.name == "lm_head" for term in report.estimate.terms)


def test_units_of_frozen_and_trained_weights_have_whole_gradients() -> None:
    name = "meta-llama/Llama-2-7b-hf"
    fsdp = {"fsdp": True, "gpus": 2, "gradient_checkpointing": True, "seq": 512}
    layers = 2 * 32 * (4 * 4_096**2 + 3 * 4_096 * 11_008 + 2 * 4_096)

    def gradients(accumulation: int) -> int:
        found = report_on(model(name), options("lora", gradient_accumulation=accumulation, **fsdp)).estimate
        phase = next(phase for phase in found.phases if phase.name == "optimizer")
        return sum(term.nbytes for term in phase.terms if term.name == "gradients of frozen weights")

    assert gradients(64) == pytest.approx(layers, rel=0.001)  # no_sync keeps them whole
    assert gradients(1) == pytest.approx(layers / 2, rel=0.001)


def test_hooks_of_frozen_units_keep_inputs_and_gradients_of_layers() -> None:
    """Two Llama-3-8B runs on 4 A100 (a100_80gb_liger.csv, foak-fast-kernels-liger, LoRA): 4 and 8 sequences of 4096.
    One GPU needs 528 671 B more per token, four 774 432: 30 × 2 × 4096 more, of 32 layers."""
    name = "meta-llama/Meta-Llama-3-8B"

    def left(stack: str, gpus: int | None) -> int:
        settings = Options(
            train="lora",
            stack=stack,
            batch=4,
            seq=4_096,
            precision="bf16-autocast",
            gradient_checkpointing=True,
            lora_rank=16,
            lora_targets=("q_proj", "k_proj", "v_proj", "o_proj"),
            fsdp=gpus is not None,
            gpus=gpus,
        )
        found = report_on(model(name), settings).estimate
        phase = next(phase for phase in found.phases if phase.name == "backward")
        own = ("left by the layers done", "the inputs of")
        return sum(term.nbytes for term in phase.terms if term.name.startswith(own))

    inputs = 31 * 2 * 4 * 4_096 * 4_096
    assert left("transformers-4.45-liger", None) == inputs
    assert left("transformers-5", 4) == inputs  # its checkpoints are not reentrant
    assert left("transformers-4.45-liger", 4) == inputs + 30 * 2 * 4 * 4_096 * 4_096
