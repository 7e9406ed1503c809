"""Single terms of a training step, each against arithmetic that is done by hand from its source."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from hfmem import Model, Options, inspect
from hfmem.api import report_on
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


@pytest.mark.parametrize(("asked", "ranks"), [({}, 1), ({"tp": 2}, 2), ({"dp": 4, "fsdp": True}, 4)])
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
    again = terms(matrices(COUNT), "backward", precision=precision, seq=4096, batch=8, gradient_checkpointing=True)
    assert again.get("cast weights", 2 * ONE) == 2 * ONE


@pytest.mark.parametrize("precision", ["bf16", "fp32", "bf16-autocast"])
def test_nothing_is_cast_where_weights_are_in_the_compute_dtype(precision: str) -> None:
    assert "cast weights" not in terms(matrices(COUNT), "logits", precision=precision, seq=64)
