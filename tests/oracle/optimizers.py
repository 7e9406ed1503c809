"""What real optimizers keep of real tensors, in bytes. Needs the packages that implement them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, Final

import torch

__all__ = ["DTYPES", "RANK", "SHAPES", "makers", "measure", "versions"]

SHAPES: Final = ((64,), (5000,), (8192,), (128, 64), (300, 200), (1000, 128), (128, 1000), (64, 512), (2, 64, 128))
DTYPES: Final = (torch.float32, torch.bfloat16)
RANK: Final = 8

Maker = Callable[[torch.nn.Parameter], Any]


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
    for name in ("lion", "lamb", "came", "ademamix"):
        kind = load_optimizer(name)
        found[name] = lambda p, kind=kind: kind([p], lr=1e-3)
    hessian = load_optimizer("sophiah")

    def sophia(parameter: torch.nn.Parameter) -> Any:
        optimizer = hessian([parameter], lr=1e-3)
        optimizer.compute_hutchinson_hessian = lambda *_, **__: None  # there is no graph behind this gradient
        return optimizer

    found["sophia-h"] = sophia
    return found
