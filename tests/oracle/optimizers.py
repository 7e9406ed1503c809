"""What real optimizers keep of real tensors, in bytes. Needs the packages that implement them."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

__all__ = ["DTYPES", "RANK", "SHAPES", "made_by_step", "makers", "measure", "stepping", "versions"]

SHAPES: Final = ((64,), (5000,), (8192,), (128, 64), (300, 200), (1000, 128), (128, 1000), (64, 512), (2, 64, 128))
DTYPES: Final = (torch.float32, torch.bfloat16)
RANK: Final = 8

Maker = Callable[[torch.nn.Parameter], Any]

_LOADED: Final = ("lion", "lamb", "came", "ademamix")
"""Those that pytorch_optimizer makes by our name."""


def measure(make: Maker, shape: tuple[int, ...], dtype: torch.dtype) -> int | None:
    """Bytes of everything that the optimizer keeps of one tensor after a step, each storage once, counters of steps
    and other scalars not; None where it refuses such a tensor."""
    parameter = torch.nn.Parameter(torch.randn(shape).to(dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            optimizer = make(parameter)
            parameter.grad = torch.randn(shape).to(dtype)
            optimizer.step()
        except (ValueError, IndexError, RuntimeError):
            return None
    kept = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _tensors(optimizer.state[parameter])}
    return sum(kept.values())


def _tensors(held: Any) -> Iterator[torch.Tensor]:
    """Every tensor of more than one number inside a state."""
    if isinstance(held, torch.Tensor):
        if hasattr(held, "codes"):  # torchao's quantised states
            yield from (part for name in ("codes", "scale", "qmap") if (part := getattr(held, name, None)) is not None)
        elif held.numel() > 1:
            yield held
    elif isinstance(held, dict):
        for value in held.values():
            yield from _tensors(value)
    elif isinstance(held, list | tuple):
        for value in held:
            yield from _tensors(value)
    elif hasattr(held, "ortho_matrix"):  # projectors of GaLore and APOLLO
        yield from _tensors(held.ortho_matrix)


def makers() -> dict[str, Maker]:
    """Our name of each optimizer that is installed here, and how it is made."""
    return {**_torch(), **_bitsandbytes(), **_torchao(), **_transformers(), **_low_rank(), **_others()}


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    names = ("torch", "bitsandbytes", "torchao", "transformers", "galore-torch", "apollo-torch", "schedulefree")
    found = {}
    for name in (*names, "pytorch-optimizer"):
        try:
            found[name] = version(name)
        except ImportError:
            continue
    return found


def _torch() -> dict[str, Maker]:
    optim = torch.optim
    return {
        "adamw": lambda p: optim.AdamW([p], foreach=True),
        "adamw-fused": lambda p: optim.AdamW([p], fused=True),
        "adamw-single": lambda p: optim.AdamW([p], foreach=False),
        "sgd": lambda p: optim.SGD([p]),
        "sgd-momentum": lambda p: optim.SGD([p], momentum=0.9),
        "adagrad": lambda p: optim.Adagrad([p]),
        "rmsprop": lambda p: optim.RMSprop([p]),
        "torch-adafactor": lambda p: optim.Adafactor([p]),
        "muon": lambda p: optim.Muon([p]) if p.ndim == 2 else optim.AdamW([p]),
    }


def _bitsandbytes() -> dict[str, Maker]:
    try:
        from bitsandbytes import optim
    except ImportError:
        return {}
    return {
        "adamw-32bit": lambda p: optim.AdamW([p]),
        "adamw-8bit": lambda p: optim.AdamW8bit([p]),
        "paged-adamw": lambda p: optim.PagedAdamW([p]),
        "paged-adamw-8bit": lambda p: optim.PagedAdamW8bit([p]),
        "ademamix-8bit": lambda p: optim.AdEMAMix8bit([p]),
        "sgd-8bit": lambda p: optim.SGD8bit([p], lr=1e-3, momentum=0.9),
        "lion-32bit": lambda p: optim.Lion([p]),
        "lion-8bit": lambda p: optim.Lion8bit([p]),
        "adagrad-8bit": lambda p: optim.Adagrad8bit([p]),
        "rmsprop-8bit": lambda p: optim.RMSprop8bit([p]),
    }


def _torchao() -> dict[str, Maker]:
    try:
        from torchao import optim
    except ImportError:
        return {}

    def eager(name: str) -> Maker:
        def make(parameter: torch.nn.Parameter) -> Any:
            torch.compile, compiled = (lambda function, **_: function), torch.compile
            try:
                optimizer = getattr(optim, name)([parameter])
                parameter.grad = torch.zeros_like(parameter)
                optimizer.step()  # the state is made while compilation is off
            finally:
                torch.compile = compiled
            optimizer.step = lambda: None
            return optimizer

        return make

    return {
        "torchao-adamw-8bit": eager("AdamW8bit"),
        "torchao-adamw-4bit": eager("AdamW4bit"),
        "torchao-adamw-fp8": eager("AdamWFp8"),
    }


def _transformers() -> dict[str, Maker]:
    from transformers.optimization import Adafactor

    return {
        "adafactor": lambda p: Adafactor([p]),
        "adafactor-beta1": lambda p: Adafactor([p], beta1=0.9, relative_step=False, lr=1e-3),
    }


def _low_rank() -> dict[str, Maker]:
    found: dict[str, Maker] = {}
    common = {"update_proj_gap": 5, "proj_type": "std"}
    try:
        from galore_torch import GaLoreAdamW

        found["galore"] = lambda p: GaLoreAdamW([{"params": [p], "rank": RANK, "scale": 0.25, **common}])
    except ImportError:
        pass
    try:
        from apollo_torch import APOLLOAdamW

        apollo = {"proj": "random", **common}
        found["apollo"] = lambda p: APOLLOAdamW(
            [{"params": [p], "rank": RANK, "scale": 1, "scale_type": "channel", **apollo}]
        )
        found["apollo-mini"] = lambda p: APOLLOAdamW(
            [{"params": [p], "rank": 1, "scale": 128, "scale_type": "tensor", **apollo}]
        )
    except ImportError:
        pass
    return found


def _others() -> dict[str, Maker]:
    found: dict[str, Maker] = {}
    try:
        from schedulefree import AdamWScheduleFree, SGDScheduleFree

        def trained(kind: Any) -> Maker:
            def make(parameter: torch.nn.Parameter) -> Any:
                optimizer = kind([parameter], lr=1e-3)
                optimizer.train()
                return optimizer

            return make

        found["schedule-free"] = trained(AdamWScheduleFree)
        found["schedule-free-sgd"] = trained(SGDScheduleFree)
    except ImportError:
        pass
    try:
        from pytorch_optimizer import load_optimizer
    except ImportError:
        return found
    for name in _LOADED:
        kind = load_optimizer(name)
        found[name] = lambda p, kind=kind: kind([p], lr=1e-3)
    hessian = load_optimizer("sophiah")

    def sophia(parameter: torch.nn.Parameter) -> Any:
        optimizer = hessian([parameter], lr=1e-3)
        optimizer.compute_hutchinson_hessian = lambda *_, **__: None  # there is no graph behind this gradient
        return optimizer

    found["sophia-h"] = sophia
    return found


class _Made(TorchDispatchMode):
    """Counts what operations make while it is on, and the most of it that is alive at once."""

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self._alive = {tensor.untyped_storage()._cdata: 0 for tensor in known}
        self._now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_flatten(made)[0]:
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self._now -= self._alive.pop(key, 0)


def made_by_step(kind: Callable[[list[torch.nn.Parameter]], Any], dtype: torch.dtype, count: int) -> int:
    """Bytes that a step on `count` matrices of 256 × 256 makes besides parameters, gradients and states."""
    parameters = [torch.nn.Parameter(torch.randn(256, 256).to(dtype)) for _ in range(count)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = kind(parameters)
        for _ in range(3):
            for parameter in parameters:
                parameter.grad = torch.randn_like(parameter)
            known = [*parameters, *(parameter.grad for parameter in parameters), *_tensors(dict(optimizer.state))]
            known += [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
            with _Made(known) as made:
                optimizer.step()
    return made.peak


def stepping() -> dict[str, Callable[[list[torch.nn.Parameter]], Any]]:
    """Our name of optimizers whose step makes something, and how they are made for several parameters, as on CUDA."""
    from transformers.optimization import Adafactor

    optim = torch.optim
    found: dict[str, Callable[[list[torch.nn.Parameter]], Any]] = {
        "adamw": lambda p: optim.AdamW(p, foreach=True),
        "adamw-fused": lambda p: optim.AdamW(p, fused=True),
        "adamw-single": lambda p: optim.AdamW(p, foreach=False),
        "sgd": lambda p: optim.SGD(p, foreach=True),
        "sgd-momentum": lambda p: optim.SGD(p, momentum=0.9, foreach=True),
        "adagrad": lambda p: optim.Adagrad(p, foreach=True),
        "rmsprop": lambda p: optim.RMSprop(p, foreach=True),
        "torch-adafactor": lambda p: optim.Adafactor(p, foreach=True),
        "muon": optim.Muon,
        "adafactor": Adafactor,
        "adafactor-beta1": lambda p: Adafactor(p, beta1=0.9, relative_step=False, lr=1e-3),
    }
    try:
        from pytorch_optimizer import load_optimizer
    except ImportError:
        return found
    for name in _LOADED:
        found[name] = partial(load_optimizer(name), lr=1e-3)
    return found
