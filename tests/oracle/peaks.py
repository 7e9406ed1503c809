"""The peak of a training step as PyTorch would allocate it, without memory or GPU: `MemTracker` under `FakeTensorMode`.

On the CPU, with `foreach=True` as on CUDA. The second step counts: the first makes the optimizer's states. Adapters are
in the model's dtype, because PEFT's cast to float32 cannot swap fake weights.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from hfmem import inspect
from hfmem.probe.tiny import build

__all__ = ["TARGETS", "peak", "shortened"]

TARGETS = "all-linear"
RANK = 16


def shortened(name: str, layers: int) -> dict[str, Any]:
    """A model's configuration with so many layers: lists of one entry a layer are cut with them."""
    config = copy.deepcopy(dict(inspect(name, offline=True).checkpoint.config or {}))
    for part in (config, *(config[key] for key in ("text_config",) if isinstance(config.get(key), dict))):
        depth = next((part[key] for key in ("num_hidden_layers", "n_layer", "num_layers") if key in part), None)
        for key, value in list(part.items()):
            if isinstance(value, list) and len(value) == depth:
                part[key] = value[:layers]
            elif key in ("num_hidden_layers", "n_layer", "num_layers"):
                part[key] = layers
    return config


def _adapted(model: Any) -> Any:
    """The model with adapters of its own dtype. Modules are not moved: fake parameters cannot be swapped."""
    from peft import LoraConfig, get_peft_model

    moved, default = torch.nn.Module._apply, torch.get_default_dtype()
    torch.nn.Module._apply = lambda self, *_, **__: self  # type: ignore[method-assign]
    torch.set_default_dtype(torch.bfloat16)
    try:
        config = LoraConfig(r=RANK, target_modules=TARGETS, lora_dropout=0.0)
        return get_peft_model(model, config, autocast_adapter_dtype=False)
    finally:
        torch.nn.Module._apply = moved  # type: ignore[method-assign]
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


def peak(config: Mapping[str, Any], *, batch: int, seq: int, method: str, checkpointing: bool) -> int:
    """Bytes of the CPU's peak over one step of AdamW in bf16."""
    built = build(dict(config))
    with FakeTensorMode(allow_non_fake_inputs=True), warnings.catch_warnings():
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
        ids = torch.zeros(batch, seq, dtype=torch.long)
        tracker = MemTracker()
        with _frozen_parameters_have_no_hooks(), tracker_of(tracker, model, optimizer):
            for step in range(2):
                model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                if step == 0:
                    tracker.reset_mod_stats()
        (parts,) = tracker.get_tracker_snapshot("peak").values()
    return int(next(size for name, size in parts.items() if str(name).lower().endswith("total")))
