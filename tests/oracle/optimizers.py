"""What real optimizers keep of real tensors, in bytes. Needs the packages that implement them: those of `.[peers]`, and
galore-torch, apollo-torch, lomo-optim, adam-mini, sophia-optimizer; each that is missing is left out."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

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
    return {
        **_torch(),
        **_bitsandbytes(),
        **_torchao(),
        **_transformers(),
        **_low_rank(),
        **_in_backward(),
        **_others(),
    }


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    names = ("torch", "bitsandbytes", "torchao", "transformers", "galore-torch", "apollo-torch", "schedulefree")
    found = {}
    for name in (*names, "pytorch-optimizer", "lomo-optim", "adam-mini", "sophia-optimizer"):
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
        found["galore-layerwise"] = _layerwise
        from galore_torch import GaLoreAdamW8bit  # needs bitsandbytes

        found["galore-8bit"] = lambda p: _processor(
            GaLoreAdamW8bit(
                [{"params": [p], "rank": RANK, "scale": 0.25, **common} if p.ndim == 2 else {"params": [p]}]
            )
        )
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


class _Hooked:
    """Optimizers whose steps are hooks of the backward pass: a step is one of those.

    Attributes:
        state: what is kept of a parameter, where PyTorch's optimizers have it.
    """

    def __init__(self, parameter: torch.nn.Parameter, kept: Callable[[], Any]) -> None:
        self._parameter, self._kept = parameter, kept

    @property
    def state(self) -> dict[torch.nn.Parameter, Any]:
        return {self._parameter: self._kept()}

    def step(self) -> None:
        gradient, self._parameter.grad = self._parameter.grad, None
        (self._parameter * gradient).sum().backward()
        (self._parameter * 0).sum().backward()  # LOMO steps on what the pass before left


def _layerwise(parameter: torch.nn.Parameter) -> Any:
    """GaLore as transformers' Trainer hooks it into the backward pass."""
    from galore_torch import GaLoreAdamW
    from transformers.trainer_optimizer import _setup_low_rank_optimizer

    linear = torch.nn.Linear(1, 1, bias=False)
    model = torch.nn.ModuleDict({"linear": linear})
    if parameter.ndim == 2:
        linear.weight = parameter
    else:
        model.register_parameter("other", parameter)
    arguments = SimpleNamespace(parallel_mode=None, optim_target_modules="all-linear", gradient_accumulation_steps=1)
    asked = {"rank": RANK, "update_proj_gap": 5, "scale": 0.25, "proj_type": "std"}
    names = {"galore_layerwise": GaLoreAdamW}
    _, made = _setup_low_rank_optimizer(arguments, model, "galore_layerwise", names, asked, {"lr": 1e-3})
    return _Hooked(parameter, lambda: made["optimizer_dict"][parameter].state[parameter])


def _in_backward() -> dict[str, Maker]:
    def adamw(parameter: torch.nn.Parameter) -> Any:  # as PyTorch's tutorial has it
        optimizer = torch.optim.AdamW([parameter], foreach=False)

        def hook(_: torch.Tensor) -> None:
            optimizer.step()
            optimizer.zero_grad()

        parameter.register_post_accumulate_grad_hook(hook)
        return _Hooked(parameter, lambda: optimizer.state[parameter])

    found: dict[str, Maker] = {"adamw-in-backward": adamw}
    try:
        import lomo_optim
    except ImportError:
        return found

    def hooked(kind: Any) -> Maker:
        def make(parameter: torch.nn.Parameter) -> Any:
            model = torch.nn.ParameterDict({"weight": parameter})
            with patch.object(torch.Tensor, "cuda", lambda tensor: tensor):
                optimizer = kind(model, lr=1e-3)
            names = ("exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col", "grad_norms")
            return _Hooked(parameter, lambda: [getattr(optimizer, name, None) for name in names])

        return make

    return found | {"lomo": hooked(lomo_optim.Lomo), "adalomo": hooked(lomo_optim.AdaLomo)}


def _processor(optimizer: Any) -> Any:
    """An optimizer that waits for a GPU, which is not there, after its step."""
    step = optimizer.step

    def stepped() -> None:
        with patch.object(torch.cuda, "synchronize", lambda: None):
            step()

    optimizer.step = stepped
    return optimizer


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
        from adam_mini import Adam_mini

        # matrices of the blocks by their rows; vectors as biases, which it takes as Adam does
        found["adam-mini"] = lambda p: Adam_mini(
            [("mlp.weight" if p.ndim > 1 else "bias", p)], dim=64, n_heads=4, verbose=False
        )
    except ImportError:
        pass
    if (package := find_spec("sophia")) and package.submodule_search_locations:  # whose own __init__ fails
        path = Path(package.submodule_search_locations[0]) / "sophia.py"
        spec = spec_from_file_location("_sophia", path)
        assert spec is not None
        assert spec.loader is not None
        sophia_module = module_from_spec(spec)
        spec.loader.exec_module(sophia_module)
        found["sophia"] = lambda p: sophia_module.SophiaG([p])
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
