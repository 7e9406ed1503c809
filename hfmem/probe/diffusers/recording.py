"""Records what one call of a model allocates above its weights and inputs, under fake tensors.

A moment is a point of time right after an allocation. Convolutions on a GPU copy their input and output into another
memory layout (NHWC) if they are in half precision: each such call has two more moments, with one and with both copies.
"""

from __future__ import annotations

import gc
import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from unittest.mock import patch

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from hfmem.engines.convolutions import Convolution
from hfmem.probe.diffusers.uncached import forget

__all__ = ["COPIES", "Recorded", "build", "record"]

COPIES: Final = ("one copy", "copies", "copies and float32")
"""Names of moments with copies for convolutions: one, both, and in half precision 3D also the output in float32."""

_WIDE: Final = 256
"""Channels from which some plans of 3D convolutions hold the output in float32 (`tests/oracle/cudnn.py`)."""

_KNOWN: Final = 16
"""Elements of tensors whose values are known, as they were made from numbers: shapes, by which some classes cut."""

_SIDES: Final = 5  # of a tensor in a 3D convolution: batch, channels, frames, height, width

_CONVOLUTION: Final = "aten.convolution.default"

_sdpa = functional.scaled_dot_product_attention


@dataclass(slots=True, kw_only=True)
class Recorded:
    """One call.

    Attributes:
        ops: the operations, one per moment; moments with copies for a convolution are named as in `COPIES`.
        moments: bytes that are alive at each.
        convolved: of each convolution, the elements of the larger of its input and output, and its batch.
        inputs: bytes of the inputs.
        outputs: bytes of the storages of the output.
    """

    ops: list[str] = field(default_factory=list)
    moments: list[int] = field(default_factory=list)
    convolved: list[tuple[int, int]] = field(default_factory=list)
    inputs: int = 0
    outputs: int = 0

    @property
    def peak(self) -> int:
        """The highest moment without copies of convolutions."""
        return max((n for op, n in zip(self.ops, self.moments, strict=True) if op not in COPIES), default=0)

    @property
    def peak_nhwc(self) -> int:
        """The highest moment with copies of convolutions."""
        return max((n for op, n in zip(self.ops, self.moments, strict=True) if op != COPIES[2]), default=0)


class _Recorder(TorchDispatchMode):  # type: ignore[misc] # PyTorch is untyped here
    def __init__(self) -> None:
        super().__init__()
        self.found = Recorded()
        self._known: dict[int, int] = {}
        self._live = 0

    def give(self, tensors: Any) -> int:
        """Register tensors that exist before the call, and return their bytes."""
        total = 0
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:
                self._known[storage._cdata] = 0
                weakref.finalize(storage, self._freed, storage._cdata)
                total += storage.nbytes()
        return total

    def _freed(self, key: int) -> None:
        self._live -= self._known.pop(key, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        before = self._live
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.nbytes() and storage._cdata not in self._known:
                    self._known[storage._cdata] = storage.nbytes()
                    self._live += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage._cdata)
        name = str(func)
        if self._live > before:
            self.found.ops.append(name)
            self.found.moments.append(self._live)
            if name == _CONVOLUTION:
                copies = [x.numel() * x.element_size() for x in (args[0], out)]
                self.found.ops += COPIES[:2]
                elements, images = max(args[0].numel(), out.numel()), out.shape[0]
                made = Convolution(
                    bare=self._live, larger=max(copies), both=sum(copies), elements=elements, images=images
                )
                self.found.moments += [self._live + round(max(copies) * made.share), round(made.most)]
                self.found.convolved.append((elements, images))
                if out.dim() == _SIDES and out.element_size() < 4:
                    wide = 4 * out.numel() * made.share if max(args[0].shape[1], out.shape[1]) >= _WIDE else 0
                    self.found.ops.append(COPIES[2])
                    self.found.moments.append(round(made.most + wide))
        return out


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """Fused attention for all head sizes: its output, and one float32 for each head and query."""
    if query.shape[-1] == value.shape[-1]:
        kwargs.pop("enable_gqa", None)
        if key.shape[-3] != query.shape[-3]:  # grouped queries are a view in a fused kernel
            key, value = (x.expand(*query.shape[:-2], *x.shape[-2:]) if x.shape[-3] == 1 else x for x in (key, value))
            if key.shape[-3] != query.shape[-3]:
                return _fused(query, value)
        return _sdpa(query, key, value, *args, **kwargs)
    return _fused(query, value)


def _fused(query: Any, value: Any) -> Any:
    output = query.new_empty((*query.shape[:-3], query.shape[-2], query.shape[-3], value.shape[-1])).transpose(-2, -3)
    query.new_empty(query.shape[:-1], dtype=torch.float32)
    return output


@contextmanager
def _quiet() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def build(cls: Any, config: Any, dtype: torch.dtype, mode: FakeTensorMode) -> Any:
    """A model without data, in `dtype` except for the modules that its class keeps in float32."""
    # modules that are made without data cannot be moved, which some classes do by default
    filled = {"empty_init": False} if "empty_init" in inspect.signature(cls.__init__).parameters else {}
    with mode:
        model = cls(**config) if isinstance(config, dict) else cls(config, **filled)
        model.eval().requires_grad_(False)
        kept = tuple(getattr(model, "_keep_in_fp32_modules", None) or ()) if dtype != torch.float32 else ()
        if not hasattr(model, "load_config") and dtype != torch.float16:  # transformers: only in float16
            kept = ()
        for name, parameter in model.named_parameters():
            held = torch.float32 if any(part in name.split(".") for part in kept) else dtype
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(held)
        for name, buffer in model.named_buffers():
            held = torch.float32 if any(part in name.split(".") for part in kept) else dtype
            if buffer.is_floating_point():
                owner, _, leaf = name.rpartition(".")
                module = model.get_submodule(owner)
                module._buffers[leaf] = buffer.to(held)
    return model


def record(model: Any, call: Callable[[Any], Any], inputs: Any, mode: FakeTensorMode) -> Recorded:
    """What `call(model)` allocates; `inputs` are the tensors that it is given."""
    forget()
    recorder = _Recorder()
    constants = patch.object(fake_tensor, "CONSTANT_NUMEL_LIMIT", _KNOWN)
    attention = patch.object(functional, "scaled_dot_product_attention", _attention)
    with _quiet(), torch.no_grad(), mode, constants, attention:
        recorder.give([*model.parameters(), *model.buffers()])
        recorder.found.inputs = recorder.give(x for x in tree_iter(inputs) if isinstance(x, torch.Tensor))
        with recorder:
            out = call(model)
        held = {
            x.untyped_storage()._cdata: x.untyped_storage().nbytes()
            for x in tree_iter(out)
            if isinstance(x, torch.Tensor)
        }
        recorder.found.outputs = sum(held.values())
        del out
    return recorder.found
