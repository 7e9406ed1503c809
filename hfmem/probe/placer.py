"""The modules of a class of `transformers` on the meta device, and where `device_map` puts them: by the functions of
the installed transformers and Accelerate themselves, which `from_pretrained` calls."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
import transformers
from torch import nn
from transformers.integrations import accelerate as placing
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.quantizers.auto import get_hf_quantizer
from transformers.utils.generic import ContextManagers

from hfmem.mapper.modules import Device, Held, Kind, Module, Modules
from hfmem.mapper.names import meaning
from hfmem.probe.parameters import model_class
from hfmem.silence import quiet

__all__ = ["OfClass", "built", "made", "modules_of"]

_BITS: Final = {"nf4": {"load_in_4bit": True}, "fp4": {"load_in_4bit": True}, "int8": {"load_in_8bit": True}}
"""What bitsandbytes is asked for."""

_TOWERS: Final = ("vision", "audio", "projector")


@dataclass(slots=True, kw_only=True)
class OfClass:
    """A class that a config.json names, with Accelerate's own placement of it.

    Attributes:
        config: the config.json.
        depth: layers of the decoder, by which its blocks are recognised; None if unknown.
    """

    config: Mapping[str, Any]
    depth: int | None
    _built: dict[tuple[str | None, str], tuple[Any, Any]] = field(default_factory=dict)

    def _model(self, dtype: str | None, quantised: str) -> tuple[Any, Any]:
        if (dtype, quantised) not in self._built:
            self._built[dtype, quantised] = built(self.config, dtype, quantised)
        return self._built[dtype, quantised]

    def modules(self, dtype: str | None, quantised: str) -> Modules:
        """Its modules, with the bytes by which they are placed.

        Raises:
            Exception: the class, or its quantiser, cannot be built here.
        """
        return modules_of(*self._model(dtype, quantised), self.depth)

    def placed(self, dtype: str | None, quantised: str, limits: Mapping[Device, float], way: str) -> dict[str, Device]:
        """Where each module is put, within these bytes of each device, by the functions that `_get_device_map` of
        transformers calls.

        Raises:
            Exception: the class, or its quantiser, cannot be built here.
        """
        model, quantiser = self._model(dtype, quantised)
        whole, rest = model._no_split_modules, getattr(model, "_no_placement_params", None)
        with quiet():
            room = dict(limits)
            if way != "sequential":
                room = placing.get_balanced_memory(
                    model,
                    max_memory=room,
                    no_split_module_classes=whole,
                    hf_quantizer=quantiser,
                    low_zero=way == "balanced_low_0",
                )
            if quantiser is not None:
                room = quantiser.adjust_max_memory(room)
            return dict(
                placing.infer_auto_device_map(
                    model,
                    max_memory=room,
                    no_split_module_classes=whole,
                    hf_quantizer=quantiser,
                    no_placement_params=rest,
                )
            )


def built(config: Mapping[str, Any], dtype: str | None, quantised: str = "") -> tuple[Any, Any]:
    """The class on the meta device as `from_pretrained` makes it before it loads, and its quantiser.

    Args:
        config: a config.json.
        dtype: the run dtype.
        quantised: nf4, fp4 or int8, to which bitsandbytes quantises while loading; "" for none.

    Raises:
        Exception: the class, or its quantiser, cannot be built here.
    """
    found = model_class(config)
    rest = {key: value for key, value in copy.deepcopy(dict(config)).items() if key not in ("model_type", "auto_map")}
    asked = transformers.BitsAndBytesConfig(**_BITS[quantised]) if quantised else None
    run = getattr(torch, dtype or "float32")
    with quiet():
        of_class = CONFIG_MAPPING[config["model_type"]](**rest)
        quantiser, of_class, _ = get_hf_quantizer(of_class, asked, "auto", True, {})
        if quantiser is not None:
            run = quantiser.update_dtype(run)
        return made(found, of_class, run, quantiser), quantiser


def made(model_class: Any, config: Any, dtype: torch.dtype, quantiser: Any = None) -> Any:
    """A class on the meta device, with the modules that its quantiser puts in place of others.

    Raises:
        Exception: it cannot be built here.
    """
    with ContextManagers(model_class.get_init_context(dtype, quantiser is not None, False, False)):
        model = model_class(config)
        if quantiser is not None:
            quantiser.preprocess_model(model=model, dtype=dtype, device_map="auto", checkpoint_files=None)
    return model


def modules_of(model: Any, quantiser: Any, depth: int | None) -> Modules:
    """The modules of a model, by the bytes that transformers counts for them.

    Args:
        model: a model on the meta device.
        quantiser: its quantiser; None without one.
        depth: layers of the decoder.
    """
    sizes, _ = placing.compute_module_sizes(model, quantiser, only_modules=False)
    ties: dict[str, list[str]] = defaultdict(list)
    for name, other in model.all_tied_weights_keys.items():
        ties[other].append(name)
    reader = _Reader(sizes=sizes, whole=frozenset(model._no_split_modules or ()), blocks=_blocks(model, depth))
    return Modules(
        root=reader.module("", model),
        tied=tuple(tuple(sorted((*names, other))) for other, names in ties.items()),
        source=f"transformers {transformers.__version__}",
    )


def _blocks(model: Any, depth: int | None) -> str:
    """The name before the numbers of the decoder's layers; "" where it is not known."""
    lists = [
        name for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    text = [name for name in lists if meaning(f"{name}.0.weight", 2).component not in _TOWERS]
    decoders = [name for name in text if "decoder" in name or "language" in name]
    return next(iter(decoders or text), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads modules: bytes by full name, classes that are never split, and the name before numbers of layers."""

    sizes: Mapping[str, float]
    whole: frozenset[str]
    blocks: str

    def module(self, name: str, module: nn.Module) -> Module:
        """A module, with what is in it."""
        prefix = f"{name}." if name else ""
        whole = type(module).__name__ in self.whole
        children = tuple(self.module(prefix + key, child) for key, child in module.named_children())
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        held = self._held(prefix, module.named_parameters() if whole else module.named_parameters(recurse=False))
        head, _, number = name.rpartition(".")
        return Module(
            name=name,
            nbytes=self.sizes.get(name, 0),
            children=children,
            parameters=tuple(self._tensor(prefix + key) for key, _ in module.named_parameters(recurse=False)),
            buffers=tuple(self._tensor(prefix + key) for key, _ in module.named_buffers(recurse=False)),
            whole=whole,
            layer=int(number) if self.blocks and head == self.blocks else None,
            held=held,
            largest=max(
                (sum(self.sizes.get(prefix + key, 0) for key, _ in own), *(child.largest for child in children))
            ),
        )

    def _tensor(self, name: str) -> Module:
        return Module(name=name, nbytes=self.sizes.get(name, 0), tensor=True)

    def _held(self, prefix: str, tensors: Iterator[tuple[str, Any]]) -> tuple[Held, ...]:
        """What parameters are, by component, role and shape."""
        sums: dict[Kind, float] = defaultdict(float)
        for key, tensor in tensors:
            shape = tuple(tensor.shape)
            of = meaning(prefix + key, len(shape))
            sums[of.component, of.role, shape] += self.sizes.get(prefix + key, 0)
        return tuple(Held(kind=kind, nbytes=size) for kind, size in sums.items() if size)
