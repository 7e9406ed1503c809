"""The peak of a training step as PyTorch would allocate it, without memory or GPU: `MemTracker` under `FakeTensorMode`.

On the CPU, with `foreach=True` as on CUDA. The optimizer has its states already, from a step with gradients of zeros: a
whole step before would leave an embedding that requires a gradient behind, which the hooks of `MemTracker` never let go
of. Adapters are in the model's dtype, because PEFT's cast to float32 cannot swap fake weights. Attention that drops out
keeps what the kernels of a GPU keep: the CPU's would write out tokens × tokens.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import masking_utils

from hfmem.probe.activations.flash import fused_attention
from hfmem.probe.tiny import build
from tests.oracle.peak_cases import RANK, TARGETS

__all__ = ["peak"]


def _adapted(model: Any) -> Any:
    """The model with adapters of its own dtype. Modules are not moved: fake parameters cannot be swapped."""
    from peft import LoraConfig, get_peft_model

    moved, default = torch.nn.Module._apply, torch.get_default_dtype()
    torch.nn.Module._apply = lambda self, *_, **__: self
    torch.set_default_dtype(torch.bfloat16)
    try:
        config = LoraConfig(r=RANK, target_modules=TARGETS, lora_dropout=0.0)
        return get_peft_model(model, config, autocast_adapter_dtype=False)
    finally:
        torch.nn.Module._apply = moved
        torch.set_default_dtype(default)


class _NoHook:
    """What stands for the handle of a hook that there is none of."""

    def remove(self) -> None:
        """Nothing to remove."""


@contextlib.contextmanager
def _frozen_parameters_have_no_hooks() -> Iterator[None]:
    """`MemTracker` watches the gradient of every parameter, which frozen ones do not have."""
    names = ("register_hook", "register_post_accumulate_grad_hook")
    real = {name: getattr(torch.Tensor, name) for name in names}

    def only_trained(name: str) -> Any:
        def register(tensor: torch.Tensor, hook: Any) -> Any:
            return real[name](tensor, hook) if tensor.requires_grad else _NoHook()

        return register

    for name in names:
        setattr(torch.Tensor, name, only_trained(name))
    try:
        yield
    finally:
        for name, register in real.items():
            setattr(torch.Tensor, name, register)


@contextlib.contextmanager
def tracker_of(tracker: MemTracker, model: Any, optimizer: Any) -> Iterator[None]:
    """A tracker that knows a model and its optimizer."""
    tracker.track_external(model, optimizer)
    with tracker:
        yield


@contextlib.contextmanager
def _as_run() -> Iterator[None]:
    """What fake tensors would have a class do otherwise than real ones on a GPU.

    `masking_utils` looks for packed sequences in the positions. It cannot read fake ones, and would mask tokens ×
    tokens to be safe; of positions that count up it finds none. Attention: see `hfmem.probe.activations.flash`.
    """
    with fused_attention(), patch.object(masking_utils, "find_packed_sequence_indices", lambda _positions: None):
        yield


def peak(config: Mapping[str, Any], *, batch: int, seq: int, method: str, checkpointing: bool) -> int:
    """Bytes of the CPU's peak over one step of AdamW in bf16."""
    built = build(dict(config))
    with _as_run(), FakeTensorMode(allow_non_fake_inputs=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = getattr(transformers, config["architectures"][0])
        model: Any = kind._from_config(built, dtype=torch.bfloat16, attn_implementation="sdpa")
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        if method == "lora":
            model = _adapted(model)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, foreach=True)
        for parameter in trained:  # the first step makes the optimizer's states
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        ids = torch.zeros(batch, seq, dtype=torch.long)
        tracker = MemTracker()
        with _frozen_parameters_have_no_hooks(), tracker_of(tracker, model, optimizer):
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        (parts,) = tracker.get_tracker_snapshot("peak").values()
    return int(next(size for name, size in parts.items() if str(name).lower().endswith("total")))
