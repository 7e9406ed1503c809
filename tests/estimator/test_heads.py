"""Heads in training: what a class has in place of logits over the vocabulary."""

from __future__ import annotations

from typing import Any

import pytest

from hfmem import estimate
from hfmem.units import GIB

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def peak(name: str, **asked: Any) -> int:
    facts = estimate(name, offline=True, train="full", **asked).estimate.training
    assert facts is not None
    return facts.allocated


# Peaks of real classes under fake tensors, transformers 5.24 and PyTorch 2.13.
@pytest.mark.parametrize(("name", "asked", "gib"), [
    ("BAAI/bge-m3", {"batch": 8, "seq": 512, "precision": "fp32"}, 13.21),
    ("Intel/bert-base-uncased-mrpc", {"batch": 32, "seq": 128, "precision": "fp32"}, 3.84),
    ("Skywork/Skywork-Reward-Llama-3.1-8B-v0.2", {"batch": 4, "seq": 1024, "optimizer": "sgd"}, 38.87),
    ("google-bert/bert-base-uncased", {"batch": 8, "seq": 512, "optimizer": "sgd", "precision": "bf16"}, 2.21),
])  # fmt: skip
def test_the_class_decides(name: str, asked: dict[str, Any], gib: float) -> None:
    assert peak(name, **asked) == pytest.approx(gib * GIB, rel=0.01)


def test_a_head_that_is_asked_for_is_what_its_class_has() -> None:
    """A reward model is Llama 3.1 8B with `LlamaForSequenceClassification`."""
    asked: dict[str, Any] = {"batch": 4, "seq": 1024, "optimizer": "sgd"}
    reward = "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2"
    assert peak(LLAMA, head="classification", **asked) == peak(reward, **asked)
    assert peak(reward, head="lm", **asked) == peak(LLAMA, **asked)


def test_without_a_head_its_weights_are_not_trained() -> None:
    """4 B of weights and gradients a parameter of the head, at the optimizer's step."""
    asked: dict[str, Any] = {"batch": 1, "seq": 8, "optimizer": "sgd"}
    both = [estimate(LLAMA, offline=True, train="full", head=head, **asked).estimate for head in ("lm", "none")]
    steps = [next(phase.total for phase in one.phases if phase.name == "optimizer") for one in both]
    assert steps[0] - steps[1] == 128256 * 4096 * 4


def test_an_embedding_that_is_tied_to_no_head_has_one_gradient() -> None:
    asked: dict[str, Any] = {"batch": 1, "seq": 8, "optimizer": "sgd", "precision": "fp32"}
    found = estimate("BAAI/bge-m3", offline=True, train="full", **asked).estimate
    backward = next(phase for phase in found.phases if phase.name == "backward")
    trained = found.training.trainable if found.training else 0
    assert backward.group("gradients") == 4 * trained


@pytest.mark.parametrize("head", ["embedding", "none", "classification"])
def test_nothing_to_fuse(head: str) -> None:
    with pytest.raises(Exception, match="--head"):
        estimate(LLAMA, offline=True, train="full", head=head, fused_loss=True)
