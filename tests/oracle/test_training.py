"""Optimizers, adapters and 4-bit weights as the real packages make them. Each package that is not installed is skipped;
`fixtures/oracle/{optimizers,lora}.json` have what they were when all were there."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

import torch

from hfmem.estimator.recipe.optimizers import find_optimizer
from tests.oracle import adapters, optimizers, precisions

pytestmark = pytest.mark.oracle

COUNT = 8


@pytest.mark.parametrize("name", sorted(optimizers.makers()))
def test_optimizer_states(name: str) -> None:
    from tests.estimator.test_optimizers import ours

    make = optimizers.makers()[name]
    measured = 0
    for dtype in optimizers.DTYPES:
        for shape in optimizers.SHAPES:
            nbytes = optimizers.measure(make, shape, dtype)
            if nbytes is not None:
                assert ours(name, str(dtype).removeprefix("torch."), shape) == nbytes, (shape, dtype)
                measured += 1
    assert measured >= 5


@pytest.mark.parametrize("name", sorted(optimizers.stepping()))
def test_what_a_step_makes(name: str) -> None:
    row = find_optimizer(name)
    assert row is not None
    for dtype, width, single in ((torch.float32, 4, row.tensor_bytes[0]), (torch.bfloat16, 2, row.tensor_bytes[1])):
        made = optimizers.made_by_step(optimizers.stepping()[name], dtype, COUNT)
        assert made == pytest.approx(256 * 256 * (COUNT * width * row.lists + single), rel=0.02)


def test_precisions_are_as_recorded() -> None:
    recorded = json.loads(precisions.TARGET.read_text(encoding="utf-8"))["bytes"]
    assert {name: step() for name, step in precisions.steps().items()} == recorded


@pytest.mark.parametrize("name", adapters.MODELS)
def test_trainable_parameters(name: str) -> None:
    pytest.importorskip("peft")
    from tests.estimator.test_lora import trainable

    base = adapters.on_meta(name)
    for choice, targets in adapters.CHOICES.items():
        counted = adapters.measure(base, targets)
        if counted is not None:
            assert trainable(name, choice) == counted, choice


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("shape", [(64, 64), (128, 4096), (300, 200), (1000, 1000), (4096, 1024)])
def test_nf4(shape: tuple[int, int], double: bool) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    from hfmem.estimator.weights.base import nf4_bytes

    packed, state = functional.quantize_4bit(torch.randn(shape), quant_type="nf4", compress_statistics=double)
    parts = [packed, state.absmax, state.code]
    if double:
        parts += [state.offset, state.state2.absmax]  # the table of state2 is one for all tensors
    real = sum(part.numel() * part.element_size() for part in parts)
    assert nf4_bytes(shape[0] * shape[1], double) == real
