"""Of splits that cannot be, or that software refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hfmem.refusals.splits import (
    DeviceMapError,
    Divided,
    ExpertRanksError,
    IndivisibleError,
    MachineError,
    NoExpertsError,
    NoPlanError,
    SizesError,
    TooManyRanksError,
    UnknownLayersError,
    Unplaced,
    UnsupportedSizeError,
)

__all__ = ["WORDS"]

_DIVIDED: Final[dict[Divided, str]] = {
    "heads": "model's {} attention heads",
    "kv_heads": "model's {} key/value heads",
    "experts": "model's {} experts",
    "units": "{} units of the MLP",
    "expert_units": "{} units of an expert",
    "gpus": "{} GPUs of a pipeline stage",
    "replicas": "{} replicas",
}


def _indivisible(error: IndivisibleError) -> str:
    shared = _DIVIDED[error.of].format(error.total)
    if not error.name:
        return f"{error.size} ranks do not divide the {shared}; try --ep"
    rest = "" if error.replicated else ", which are not replicated here"
    return f"--{error.name} {error.size} does not divide the {shared}{rest}"


def _too_many_ranks(error: TooManyRanksError) -> str:
    times = f" × --virtual-stages {error.pieces}" if error.pieces > 1 else ""
    return f"--{error.name} {error.size}{times} is more than the model's {error.most} {error.of}"


def _no_experts(error: NoExpertsError) -> str:
    return f"--ep {error.size} splits experts, but the model has none"


def _expert_ranks(error: ExpertRanksError) -> str:
    rule = "experts are split over all ranks of a stage or over none"
    return f"--ep {error.size} is not tp × dp = {error.ranks}: {rule}"


def _unsupported_size(error: UnsupportedSizeError) -> str:
    return f"--{error.name} {error.size}: {error.software} does not support it"


def _no_plan(error: NoPlanError) -> str:
    known = f"({error.source})" if error.source else "that is known"
    return f"--{error.name} {error.size}: {error.of or 'this model'} has no {error.name}_plan {known}"


def _unknown_layers(error: UnknownLayersError) -> str:
    return f"the layers of this model are unknown, so it cannot be split by {_asked(error.sizes)}"


def _sizes(error: SizesError) -> str:
    return f"{_asked(error.sizes, ' × ')} do not make --gpus {error.gpus}"


def _machine(error: MachineError) -> str:
    there = f"{error.count} × {error.accelerator}" + (f" of {error.instance}" if error.instance else "")
    step = "use sizes that divide them, or --gpus N"
    return f"{_asked(error.sizes)} does not match the {there} that --gpu names: {step}"


def _asked(sizes: Mapping[str, int], joint: str = " ") -> str:
    """Sizes as they are written."""
    return joint.join(f"--{name} {size}" for name, size in sizes.items())


_UNPLACED: Final[dict[Unplaced, str]] = {
    "layers": "the sizes of the model's layers are not known",
    "class": "the modules of {} are not in the table, which has decoders for text",
    "tensors": "in which modules of {} some of the model's tensors are is not known",
    "dtype": "the run dtype is unknown: use --dtype",
    "machine": "the memory of the accelerators is not known: use --gpu NAME or --max-memory 0=20GiB",
}


def _device_map(error: DeviceMapError) -> str:
    why = _UNPLACED[error.missing].format(error.name or "its class")
    if error.failed:
        return f"--device-map: {why}, and the installed transformers cannot build it ({error.failed}): use --tp or --pp"
    if error.missing in ("dtype", "machine"):
        return f"--device-map: {why}"
    step = "install torch, transformers and accelerate, which are asked themselves then, or use --tp or --pp"
    return f"--device-map: {why}: {step}"


WORDS: Final[dict[type, Callable[[Any], str]]] = {
    DeviceMapError: _device_map,
    ExpertRanksError: _expert_ranks,
    IndivisibleError: _indivisible,
    MachineError: _machine,
    NoExpertsError: _no_experts,
    NoPlanError: _no_plan,
    SizesError: _sizes,
    TooManyRanksError: _too_many_ranks,
    UnknownLayersError: _unknown_layers,
    UnsupportedSizeError: _unsupported_size,
}
"""The words of each kind."""
