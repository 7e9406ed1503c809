"""Activations of PEFT's other methods (peft 0.21.2, tuners/*/layer.py), on top of those of the frozen layers.

What one module saves for backward, in the dtype that adapters compute in:

    AdaLoRA  as LoRA: its input, and `rank` elements a token
    IA3      its result, or its input where the input is scaled
    VeRA     `rank` elements a token, and the result of the second projection, which is scaled
    OFT      its input in blocks, and the rotations of the blocks, which a series of powers makes
    LoHa     its input, and the whole matrix that the factors make
    LoKr     the same
    BOFT     its input, its result, and three matrices of inputs × inputs: the permutation, the identity, the rotation

Each is alive on top of what the frozen layer saves; with gradient checkpointing, of the layer that is recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hfmem.estimator.activations.adapters import compute_bytes, is_one, own_bytes
from hfmem.estimator.activations.source import ActivationSource, Linear, TrainingActivations
from hfmem.estimator.recipe.values import Lora, TrainingScenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import adapters
from hfmem.mapper.values import Dense

__all__ = ["with_method"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Saved:
    """What one module saves, and what its forward or backward pass holds for a moment, in elements.

    Attributes:
        token: saved per token.
        reads: whether it saves its input too, which modules with the same input share.
        fixed: saved whatever the number of tokens.
        moment_token, moment: held for a moment, per token and whatever their number.
    """

    token: int = 0
    reads: bool = False
    fixed: int = 0
    moment_token: int = 0
    moment: int = 0


def _adalora(linear: Linear, lora: Lora) -> _Saved:
    return _Saved(token=lora.rank, reads=True, moment_token=2 * linear.inputs)


def _ia3(linear: Linear, lora: Lora) -> _Saved:
    if linear.module in lora.inward:
        return _Saved(reads=True, moment_token=2 * linear.inputs)
    return _Saved(token=linear.outputs, moment_token=2 * linear.outputs)


def _vera(linear: Linear, lora: Lora) -> _Saved:
    return _Saved(token=lora.rank + linear.outputs, moment_token=2 * linear.inputs)


def _oft(linear: Linear, lora: Lora) -> _Saved:
    del lora
    return _Saved(reads=True, fixed=4 * 32 * linear.inputs, moment_token=2 * linear.inputs)


def _loha(linear: Linear, lora: Lora) -> _Saved:
    del lora
    matrix = linear.inputs * linear.outputs
    return _Saved(reads=True, fixed=matrix, moment=4 * matrix)  # a gradient, scaled, times one product, and that


def _lokr(linear: Linear, lora: Lora) -> _Saved:
    del lora
    matrix = linear.inputs * linear.outputs
    return _Saved(reads=True, fixed=matrix, moment=2 * matrix)  # a gradient, and the same scaled


def _boft(linear: Linear, lora: Lora) -> _Saved:
    del lora
    square = linear.inputs**2
    return _Saved(token=linear.outputs, reads=True, fixed=3 * square, moment_token=2 * linear.inputs, moment=3 * square)


_SAVED: Final[dict[str, Callable[[Linear, Lora], _Saved]]] = {
    "adalora": _adalora,
    "boft": _boft,
    "ia3": _ia3,
    "loha": _loha,
    "lokr": _lokr,
    "oft": _oft,
    "vera": _vera,
}


def with_method(
    model: Model, scenario: TrainingScenario, found: TrainingActivations, source: ActivationSource
) -> TrainingActivations:
    """The activations of frozen layers plus those of the modules that a method adapts."""
    training, layers = scenario.training, model.architecture.layers
    lora = training.lora
    saves = _SAVED.get(lora.method.name) if lora is not None and lora.method is not None else None
    if lora is None or layers is None or saves is None:
        return found
    modules = {(adapter.module, *adapter.group.shape[-2:]) for adapter in adapters(model, lora.targets, experts=False)}
    kept, backward = [], []
    for index, layer in enumerate(layers):
        linears = source.linears(model, scenario, index) or ()
        chosen = [linear for linear in linears if is_one(linear, modules)]
        saved = [saves(linear, lora) for linear in chosen]
        # the last module's own is freed by the frozen layer's peak, but for an input that is scaled before it
        last = isinstance(layer.ffn, Dense) and bool(chosen) and chosen[-1] == linears[-1]
        done = last and not lora.inward
        stays, between = (_bytes(scenario, chosen[:count], saved) for count in (len(chosen), len(chosen) - done))
        moment = max((_moment(scenario, one) for one in saved), default=0)
        begun = found.begun[index] if found.begun else found.layers[index]
        kept.append(found.layers[index] + (0 if training.checkpointing == "full" else stays))
        backward.append(max(found.backward[index] + between, begun + stays + moment))
    return replace(found, layers=tuple(kept), backward=tuple(backward))


def _width(scenario: TrainingScenario) -> int:
    return max(own_bytes(scenario.training), compute_bytes(scenario.training))


def _moment(scenario: TrainingScenario, saved: _Saved) -> int:
    return _width(scenario) * (scenario.batch * scenario.seq * saved.moment_token + saved.moment)


def _bytes(scenario: TrainingScenario, linears: Sequence[Linear], saved: Sequence[_Saved]) -> int:
    """What modules save; inputs that the frozen layer saves anyway are not counted, and shared ones once."""
    pairs = list(zip(linears, saved, strict=False))
    inputs = {one.shares_input_with: one.inputs for one, each in pairs if each.reads and not one.input_saved}
    token = sum(each.token for _, each in pairs) + sum(inputs.values())
    return _width(scenario) * (scenario.batch * scenario.seq * token + sum(each.fixed for _, each in pairs))
