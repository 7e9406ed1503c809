"""Gradients of an embedding that is tied to the head, at the end of the backward pass.

Real runs on the CPU (PyTorch 2.13, no dispatch mode, resident memory above the forward pass): 3.00 embeddings for a
linear head, 2.00 for a head whose gradient an autograd function returns, both in float32 and in bfloat16
(`tests/oracle/test_tied.py`).
"""

from __future__ import annotations

from typing import Any

import pytest

from hfmem import estimate

EMBEDDING = 151936 * 1024 * 4


def at_the_end(**asked: Any) -> int:
    found = estimate("Qwen/Qwen3-0.6B", offline=True, train="full", precision="fp32", batch=1, seq=8, **asked).estimate
    backward = next(phase for phase in found.phases if phase.name == "backward")
    assert found.training is not None
    return backward.group("gradients") - found.training.gradients


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adafactor"])
def test_a_linear_head(optimizer: str) -> None:
    assert at_the_end(optimizer=optimizer) == 2 * EMBEDDING


def test_a_fused_head() -> None:
    assert at_the_end(fused_loss=True) == EMBEDDING


def test_gradients_of_earlier_micro_batches() -> None:
    assert at_the_end(gradient_accumulation=2) == 3 * EMBEDDING


def test_a_head_of_its_own_has_one_gradient() -> None:
    found = estimate("Qwen/Qwen3-8B", offline=True, train="full", precision="fp32", batch=1, seq=8).estimate
    backward = next(phase for phase in found.phases if phase.name == "backward")
    assert found.training is not None
    assert backward.group("gradients") == found.training.gradients
