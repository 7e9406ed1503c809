"""Records the storages that a forward pass of one of timm's models allocates above its weights, with tensors that
have sizes and no data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

import torch
from torch.nn import functional

from hfmem.probe.activations.tracer import Tracer
from hfmem.probe.timm.installed import timm

__all__ = ["KINDS", "Call", "Moment", "Recorded", "built", "recorded"]

KINDS: Final = ("peak", "once", "copied")
"""Moments without copies of a convolution's input and output in another layout, with the larger one, and with both."""

_CONVOLUTION: Final = torch.ops.aten.convolution.default
_RGB: Final = 3
_DIMENSIONS: Final = 4  # batch, heads, tokens, size of a head
_GROUPS: Final = 8  # place of the number of groups among a convolution's arguments


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Call:
    """Images of one forward pass: how many, and their height and width in pixels."""

    batch: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Moment:
    """A point of time: its kind, the storages that are alive by number, and bytes of copies for a convolution: each is
    `(number of a tensor, its bytes)`."""

    kind: str
    live: frozenset[int]
    copies: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One forward pass.

    Attributes:
        call: its images.
        ops: the operations that allocated something.
        sizes: bytes of each storage, then of each tensor that a convolution would copy.
        moments: those that can be the highest.
    """

    call: Call
    ops: tuple[str, ...]
    sizes: tuple[int, ...]
    moments: tuple[Moment, ...]

    def bytes(self, moment: Moment) -> int:
        """Bytes that are alive at a moment."""
        return sum(self.sizes[number] for number in (*moment.live, *moment.copies))

    def highest(self, kind: str = "peak") -> int:
        """The highest moment of a kind, or of those before it."""
        kinds = KINDS[: KINDS.index(kind) + 1]
        return max(self.bytes(moment) for moment in self.moments if moment.kind in kinds)


def _batch_norm(images: Any, *_args: Any) -> tuple[Any, ...]:
    """Of evaluation: cuDNN's returns no statistics."""
    return torch.empty_like(images), images.new_empty(0), images.new_empty(0)


def _layer_norm(values: Any, shape: Sequence[int], *_args: Any) -> tuple[Any, ...]:
    """On a GPU, mean and deviation are float32."""
    kept = values.shape[: values.dim() - len(shape)]
    one, other = (values.new_empty((*kept, *[1] * len(shape)), dtype=torch.float32) for _ in range(2))
    return torch.empty_like(values, memory_format=torch.contiguous_format), one, other


def _addmm(_bias: Any, one: Any, other: Any, **_options: Any) -> Any:
    return one.new_empty((one.shape[0], other.shape[1]))


def _gelu(values: Any, **_options: Any) -> Any:
    return torch.empty_like(values)


_MADE: Final[dict[Any, Callable[..., Any]]] = {
    torch.ops.aten.addmm.default: _addmm,
    torch.ops.aten.gelu.default: _gelu,
    torch.ops.aten.native_batch_norm.default: _batch_norm,
    torch.ops.aten._native_batch_norm_legit_no_training.default: _batch_norm,
    torch.ops.aten.native_layer_norm.default: _layer_norm,
}
"""What operations return on a GPU, which without data are put together from many others."""


class _Made:
    """An operation with its own name and another way to its result."""

    def __init__(self, func: Any) -> None:
        self._func = func

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _MADE[self._func](*args, **kwargs)

    def __str__(self) -> str:
        return str(self._func)


class _Convolving(Tracer):
    """Also notes what each convolution reads and writes. Those with one group for each channel have kernels of their
    own, which copy nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions: list[tuple[int, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(_Made(func) if func in _MADE else func, types, args, kwargs)
        if func is _CONVOLUTION and (args[_GROUPS] == 1 or args[_GROUPS] < args[0].shape[1]):
            copies = tuple(x.numel() * x.element_size() for x in (args[0], out))
            self.convolutions.append((len(self.events), copies))
        return out


def built(name: str, dtype: torch.dtype, arguments: Mapping[str, Any]) -> Any:
    """A model of an architecture, without data."""
    try:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False, **arguments)
    except (NotImplementedError, RuntimeError):  # it computes constants
        model = timm.create_model(name, pretrained=False, **arguments)
    return model.eval().requires_grad_(False).to(device="meta", dtype=dtype)


def recorded(model: Any, call: Call, dtype: torch.dtype) -> Recorded:
    """What a forward pass allocates above weights and images."""
    tracer = _Convolving()
    with torch.no_grad(), patch.object(functional, "scaled_dot_product_attention", _fused):
        images = torch.empty(call.batch, _RGB, call.height, call.width, dtype=dtype, device="meta")
        given = tracer.give([*model.parameters(), *model.buffers(), images])
        tracer.segment = ("before", 0)
        with tracer:
            out = model(images)
        del out
    return _read(call, tracer, given)


def _fused(query: Any, _key: Any, value: Any, *_args: Any, **_kwargs: Any) -> Any:
    """What a fused kernel allocates: the output, and one float32 for each head and query.

    Raises:
        NotImplementedError: they take four dimensions only (`sdp_utils_cpp.h::check_tensor_shapes`); for others PyTorch
            multiplies matrices, in a way that differs by device and is not recorded.
    """
    if query.dim() != _DIMENSIONS:
        raise NotImplementedError(f"attention of {query.dim()} dimensions")
    shape = (*query.shape[:-3], query.shape[-2], query.shape[-3], value.shape[-1])
    output = query.new_empty(shape).transpose(-2, -3)
    query.new_empty(query.shape[:-1], dtype=torch.float32)
    return output


def _read(call: Call, tracer: _Convolving, given: frozenset[int]) -> Recorded:
    sizes = [allocation.nbytes for allocation in tracer.allocations]
    copies: dict[int, tuple[int, ...]] = {}
    for place, nbytes in tracer.convolutions:
        copies[place] = (len(sizes), len(sizes) + 1)
        sizes += nbytes
    moments: dict[Moment, None] = {}
    live: set[int] = set()
    rising = False
    for place, (allocated, number, _) in enumerate(tracer.events, start=1):
        if not allocated and rising:
            moments[Moment("peak", frozenset(live - given))] = None
        rising = allocated
        (live.add if allocated else live.discard)(number)
        if place in copies:
            _add_copies(moments, frozenset(live - given), copies[place])
    ops = tuple(f"{a.op} {len(a.shape)}" for a in tracer.allocations if a.segment[0] != "given")
    return Recorded(call=call, ops=ops, sizes=tuple(sizes), moments=tuple(moments))


def _add_copies(moments: dict[Moment, None], live: frozenset[int], both: tuple[int, ...]) -> None:
    """Two more moments: with the larger copy, and with both."""
    # ties and turns between sizes of images do not matter: each of the two is a moment, of which one is the larger
    for one in both:
        moments[Moment("once", live, (one,))] = None
    moments[Moment("copied", live, both)] = None
