"""Which modules get an adapter, and of what shape: names of modules, as PEFT resolves them (peft 0.21,
tuners/tuners_utils.py and utils/transformers_weight_conversion.py)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from hfmem.mapper.interpret import Model
from hfmem.mapper.values import ParameterTable, TensorGroup, known_component

__all__ = ["ALL_LINEAR", "Adapter", "adapters", "default_targets", "linear_modules", "saved_groups"]

ALL_LINEAR: Final = "all-linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Adapters of equal shape: one of (ranks × rank, inputs) and one of (outputs, ranks × rank) each.

    Attributes:
        group: the weights that they are beside.
        inputs, outputs: sizes that they lead from and to.
        ranks: how many times the rank: two where two matrices are one parameter.
        count: how many pairs.
    """

    group: TensorGroup
    inputs: int
    outputs: int
    ranks: int
    count: int

    @property
    def module(self) -> str:
        """The label of the module that each is beside."""
        return self.group.module

    def parameters(self, rank: int) -> int:
        """Of all of them."""
        return self.count * self.ranks * rank * (self.inputs + self.outputs)


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((files("hfmem.data") / "lora_targets.json").read_text(encoding="utf-8"))
    return table


def default_targets(model_type: str) -> tuple[str, ...] | None:
    """PEFT's own choice for a model type; None where it has none and a person must name the modules."""
    found = _table()["targets"].get(model_type)
    return None if found is None else tuple(found)


_TEXT: Final = "language_model."
_TOWERS: Final = ("vision", "audio", "projector")


def linear_modules(parameters: ParameterTable) -> Iterator[TensorGroup]:
    """The weights of linear modules, all but the head: what `all-linear` means, and what bitsandbytes replaces.

    transformers 5 keeps the experts of a layer in one parameter, which is no linear module, and its routers are none.
    """
    return (group for group in parameters.groups if group.loaded and not group.scale and _is_module(group))


def adapters(model: Model, targets: Iterable[str]) -> tuple[Adapter, ...]:
    """The adapters of the modules that `targets` name: the ends of module names, or all linear ones; none where
    the parameters are not known.

    A name that begins with `language_model.` leaves modules of images and sound alone (PEFT's own choice for Gemma 4).
    For mixtures whose experts transformers 5 has fused, PEFT takes the names of their matrices as those of the fused
    parameters; dense and shared networks of the same names are then left alone.
    """
    names = tuple(targets)
    words = {name.rpartition(".")[2] for name in names}
    everything = names == (ALL_LINEAR,)
    text_only = all(name.startswith(_TEXT) for name in names)
    moved: dict[str, str] = _table()["experts"].get(model.architecture.model_type or "", {})
    taken = set(moved) if everything else words & set(moved)
    found = []
    for group in model.parameters.groups if model.parameters is not None else ():
        if not group.loaded or group.scale or (text_only and group.component in _TOWERS):
            continue
        if group.component in ("experts", "router") and _inside(group, moved, taken):
            found.append(_expert(group))
        elif group.role not in taken and (_is_module(group) if everything else _is_named(group, words)):
            outputs, inputs = group.shape[-2:]
            found.append(Adapter(group=group, inputs=inputs, outputs=outputs, ranks=1, count=group.count))
    return tuple(found)


def saved_groups(parameters: ParameterTable, names: Iterable[str]) -> tuple[TensorGroup, ...]:
    """The parameters of the modules that are trained in full beside the adapters (`modules_to_save`)."""
    wanted = {name.rpartition(".")[2] for name in names}
    return tuple(group for group in parameters.groups if group.loaded and group.module in wanted)


_UNLIKE_A_MODULE: Final = re.compile(r"conv|relative|norm|table|bias|\.|^embed_|embed(ding)?s?$")


def _is_module(group: TensorGroup) -> bool:
    """Whether this is the matrix of an `nn.Linear` (or a `Conv1D` of GPT-2) that is not the output embedding."""
    if len(group.shape) != 2 or _UNLIKE_A_MODULE.search(group.role) or group.component in ("experts", "mtp"):
        return False
    if group.component == "router":
        return group.role == "shared_expert_gate"
    if group.component == "lm_head":
        return group.role == "dense"  # what BERT-like heads have before the output embedding
    return group.linear or known_component(group.component) in ("projector", "other") or "mapping" in group.role


def _is_named(group: TensorGroup, words: set[str]) -> bool:
    """Whether a name means this matrix: a linear module, the head, or an embedding."""
    plain = len(group.shape) == 2 and group.component not in ("experts", "norm", "mtp")
    return plain and group.role in words


def _inside(group: TensorGroup, moved: dict[str, str], taken: set[str]) -> bool:
    """Whether a taken name leads to this parameter; a fused one has all the names that lead to it."""
    if len(group.shape) < 2 or "." in group.role:
        return False
    names = {old for old, new in moved.items() if group.role in (old, new.removesuffix(".weight"))}
    return bool(names & taken)


def _expert(group: TensorGroup) -> Adapter:
    """One pair an expert. A fused `gate_up_proj` has twice the rank; where the files hold its halves, each half counts
    as one rank that leads to the whole width."""
    outputs, inputs = group.shape[-2:]
    count = group.count
    for size in group.shape[:-2]:
        count *= size
    halves = group.role in ("w1", "w3", "gate_proj", "up_proj")
    fused = group.role == "gate_up_proj"
    return Adapter(
        group=group, inputs=inputs, outputs=2 * outputs if halves else outputs, ranks=2 if fused else 1, count=count
    )
