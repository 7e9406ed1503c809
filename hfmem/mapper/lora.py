"""The modules that get a LoRA adapter, and its shape: module names resolved as in PEFT (peft 0.21,
tuners/tuners_utils.py and utils/transformers_weight_conversion.py)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from hfmem.data import text as data_text
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import ParameterTable, TensorGroup, known_component

__all__ = [
    "ALL_LINEAR",
    "Adapter",
    "adapters",
    "default_targets",
    "feed_forward",
    "linear_modules",
    "module_of",
    "saved_groups",
]

ALL_LINEAR: Final = "all-linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Adapters of equal shape, each with `lora_A` (ranks × rank, inputs) and `lora_B` (outputs, ranks × rank).

    Attributes:
        group: the adapted weights.
        inputs, outputs: in_features and out_features.
        ranks: multiple of the rank: 2 where two matrices are fused into one parameter.
        count: number of adapters.
    """

    group: TensorGroup
    inputs: int
    outputs: int
    ranks: int
    count: int

    @property
    def module(self) -> str:
        """The name of the adapted module."""
        return module_of(self.group)

    def parameters(self, rank: int) -> int:
        """The parameters of all adapters."""
        return self.count * self.ranks * rank * (self.inputs + self.outputs)


def module_of(group: TensorGroup) -> str:
    """The name of the linear module that has this matrix, without the modules around it."""
    return "dense" if group.role in _DENSE else group.module


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(data_text("lora_targets.json"))
    return table


def default_targets(model_type: str, method: str = "lora") -> tuple[str, ...] | None:
    """PEFT's default targets for a model type and a method; None where it has none, and the user must name them."""
    found = _table()["methods"].get(method, {}).get(model_type) or _table()["targets"].get(model_type)
    if method != "lora" and _table()["methods"].get(method, {}).get(model_type) == []:
        return None
    return None if found is None else tuple(found)


def feed_forward(model_type: str) -> tuple[str, ...]:
    """The targets of IA3 whose inputs it scales, not their outputs."""
    return tuple(_table()["methods"]["ia3 feed-forward"].get(model_type, ()))


_TEXT: Final = "language_model."
_TOWERS: Final = ("vision", "audio", "projector")


def linear_modules(parameters: ParameterTable) -> Iterator[TensorGroup]:
    """The weights of all linear modules except the head: the targets of `all-linear`, and of bitsandbytes.

    In transformers 5, the experts of a layer are one parameter and not linear modules; its routers are none either.
    """
    return (group for group in parameters.groups if group.loaded and not group.scale and _is_module(group))


def adapters(model: Model, targets: Iterable[str], *, experts: bool = True) -> tuple[Adapter, ...]:
    """The adapters for `targets`: suffixes of module names, or `all-linear`; () if the parameters are unknown.

    Targets that begin with `language_model.` exclude vision and audio modules (PEFT's default for Gemma 4). For models
    whose experts transformers 5 fuses, PEFT maps the names of expert matrices to the fused parameters; dense and shared
    networks with the same names then get no adapter. It does so for LoRA only: for other methods, `experts` is False.
    """
    names = tuple(targets)
    words = {name.rpartition(".")[2] for name in names}
    paths = tuple(name for name in names if "." in name and not name.startswith(_TEXT))
    everything = names == (ALL_LINEAR,)
    text_only = all(name.startswith(_TEXT) for name in names)
    moved: dict[str, str] = _table()["experts"].get(model.architecture.model_type or "", {}) if experts else {}
    # the names of experts are also those of dense matrices, which get no adapter then
    taken = set(moved) if everything else words & set(moved)
    found = []
    for group in model.parameters.groups if model.parameters is not None else ():
        if not group.loaded or group.scale or (text_only and group.component in _TOWERS):
            continue
        if group.component in ("experts", "router") and _inside(group, moved, taken):
            found.append(_expert(group))
        elif group.role not in taken and (_is_module(group) if everything else _is_named(group, words, paths)):
            outputs, inputs = group.shape[-2:]
            found.append(Adapter(group=group, inputs=inputs, outputs=outputs, ranks=1, count=group.count))
    return tuple(found)


def saved_groups(parameters: ParameterTable, names: Iterable[str]) -> tuple[TensorGroup, ...]:
    """The parameters of modules that are trained in full in addition to the adapters (`modules_to_save`)."""
    wanted = {name.rpartition(".")[2] for name in names}
    return tuple(group for group in parameters.groups if group.loaded and group.module in wanted)


_UNLIKE_A_MODULE: Final = re.compile(r"conv|relative|norm|table|bias|\.|^embed_|embed(ding)?s?$")


_INDEXER: Final = "indexer."  # a module of DeepSeek-V3.2 and GLM-5 around linear ones


def _is_module(group: TensorGroup) -> bool:
    """Whether this is the weight of an `nn.Linear` (or of GPT-2's `Conv1D`) other than the output embedding."""
    if (
        len(group.shape) != 2
        or _UNLIKE_A_MODULE.search(group.role.removeprefix(_INDEXER))
        or group.component in ("experts", "mtp")
    ):
        return False
    if group.component == "router":
        return group.role == "shared_expert_gate"
    if group.component == "lm_head":
        return group.role in ("dense", "transform")  # of BERT-like heads, before the output embedding
    return group.linear or known_component(group.component) in ("projector", "other") or "mapping" in group.role


def _is_named(group: TensorGroup, words: set[str], paths: tuple[str, ...] = ()) -> bool:
    """Whether a target name selects this matrix: a linear module, the head, or an embedding.

    A target with a dot names the module around it too: `mlp.c_proj` is not attention's.
    """
    plain = len(group.shape) == 2 and group.component not in ("experts", "norm", "mtp")
    role = "dense" if group.role in _DENSE else group.role
    if not plain or role not in words:
        return False
    around = [path.split(".")[-2] for path in paths if path.rpartition(".")[2] == role]
    if not around:
        return True
    within = {group.component, group.role} | ({"output"} if group.component == "attention" else set())
    return not within.isdisjoint(around)


_DENSE: Final = ("intermediate", "output", "transform")
"""Modules of BERT and its relatives around a linear module named `dense`."""


def _inside(group: TensorGroup, moved: dict[str, str], taken: set[str]) -> bool:
    """Whether a target name maps to this (possibly fused) expert parameter."""
    if len(group.shape) < 2 or "." in group.role:
        return False
    names = {old for old, new in moved.items() if group.role in (old, new.removesuffix(".weight"))}
    return bool(names & taken)


def _expert(group: TensorGroup) -> Adapter:
    """One adapter per expert. A fused `gate_up_proj` has twice the rank; if the files store its halves separately, each
    half counts as one rank with the full output size."""
    outputs, inputs = group.shape[-2:]
    count = group.count
    for size in group.shape[:-2]:  # fused experts are stacked in the leading dimension
        count *= size
    halves = group.role in ("w1", "w3", "gate_proj", "up_proj")
    fused = group.role == "gate_up_proj"
    return Adapter(
        group=group, inputs=inputs, outputs=2 * outputs if halves else outputs, ranks=2 if fused else 1, count=count
    )
