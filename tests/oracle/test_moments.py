"""Moments of a step that tests with arithmetic by hand take from PyTorch, measured: sums of gradients, and casts."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

pytestmark = pytest.mark.oracle

WORDS, HIDDEN = 20_000, 64


def peak(run: Callable[[], Any]) -> int:
    """Bytes beyond those at the start, at the highest moment."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        run()
    total, most = 0, 0
    for event in sorted(measured.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            total += event.nbytes()
            most = max(most, total)
    return most


@pytest.mark.parametrize(
    ("tied", "carried", "matrices"), [(False, False, 2), (False, True, 1), (True, False, 3), (True, True, 3)]
)
def test_gradients_of_an_embedding(tied: bool, carried: bool, matrices: int) -> None:
    """Those of one that is the head too are summed into a third tensor; an earlier micro-batch's is there besides. In
    float32: the CPU multiplies 16 bits through a buffer of its own."""
    embedding = torch.nn.Embedding(WORDS, HIDDEN)
    head = torch.nn.Linear(HIDDEN, WORDS, bias=False)
    if tied:
        head.weight = embedding.weight
    ids = torch.zeros(2, 2, dtype=torch.int64)

    def step() -> None:
        head(torch.nn.functional.silu(embedding(ids))).sum().backward()

    if carried:
        step()
    assert peak(step) / embedding.weight.nbytes == pytest.approx(matrices, abs=0.3)


class _Casts(TorchDispatchMode):
    """Counts the casts of weights that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self._found: list[weakref.ref[Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and (out.shape, out.dtype) == ((HIDDEN, HIDDEN), torch.bfloat16):
            self._found.append(weakref.ref(out.untyped_storage()))
        return out

    @property
    def alive(self) -> int:
        return sum(each() is not None for each in self._found)


@pytest.mark.parametrize(("checkpointed", "reentrant"), [(False, False), (True, False), (True, True)])
def test_casts_of_layers(checkpointed: bool, reentrant: bool) -> None:
    """All are there at the loss. In the backward pass, the graph has those of the layers not done; of checkpointed ones
    there is none but that of the layer that is computed anew."""
    layers = [torch.nn.Linear(HIDDEN, HIDDEN, bias=False) for _ in range(5)]
    seen: dict[int, int] = {}
    states = torch.randn(2, HIDDEN, requires_grad=True)
    with _Casts() as casts:
        for number, layer in enumerate(layers):
            layer.weight.register_hook(lambda _, number=number: seen.update({number: casts.alive}))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for layer in layers:
                states = checkpoint(layer, states, use_reentrant=reentrant) if checkpointed else layer(states)
                states = torch.nn.functional.silu(states)
            assert casts.alive == 5
        states.float().sum().backward()
    assert [seen[number] for number in range(5)] == ([0] * 5 if checkpointed else [0, 1, 2, 3, 4])


def test_gradients_of_an_input_with_sequences() -> None:
    """A module's gradient of an input of three dimensions is a view, and its sum with the next one a third tensor."""
    states = torch.nn.functional.silu(torch.randn(8, 64, HIDDEN, requires_grad=True))
    parts = [torch.nn.Linear(HIDDEN, HIDDEN, bias=False).requires_grad_(False) for _ in range(3)]
    total = sum(torch.nn.functional.silu(part(states)).sum() for part in parts)
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        total.backward()
    names = [event.name() for event in measured.profiler.kineto_results.events()]
    assert (names.count("aten::add"), names.count("aten::add_")) == (1, 1)
