"""Activations of PEFT's other methods (peft 0.21.2, tuners/*/layer.py), on top of those of the frozen layers.

What one module saves for backward:

    AdaLoRA  as LoRA: its input, and `rank` elements a token; with adapters that PEFT has cast to float32, its result
             too: the cast makes `ranknum` a parameter that requires a gradient
    IA3      its result, or its input where the input is scaled
    VeRA     `rank` elements a token, and the result of the second projection, which is scaled
    OFT      its input in blocks, and the rotations of the blocks, which a series of powers makes
    LoHa     its input, and the whole matrix that the factors make
    LoKr     the same
    BOFT     its input, its frozen result, and three matrices of inputs × inputs in the frozen layer's dtype: the
             permutation's cast, the identity, the rotation

Three widths count: of the frozen layers, of the adapters (PEFT casts them to float32), and of the matrix products,
which autocast chooses and otherwise the adapter. A module casts its input to the adapter's dtype (`_cast_input_dtype`),
and modules that read the same tensor do not share that cast.

A module is at its highest at one of three moments: in its forward pass, in its backward pass, or, with gradient
checkpointing, where its recomputation ends, which is where it saves its last tensor. What it saves is alive on top of
what the frozen layer saves; with checkpointing, of the layer that is recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hfmem.estimator.activations.adapters import compute_bytes, is_one, own_bytes
from hfmem.estimator.activations.source import ActivationSource, Linear, TrainingActivations
from hfmem.estimator.recipe.values import Lora, Training, TrainingScenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import adapters
from hfmem.mapper.values import Dense

__all__ = ["with_method"]

_Bytes = tuple[int, int]
"""Bytes per token, and bytes whatever the number of tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Widths:
    """Bytes per element: of the frozen layer, of the adapter, and of matrix products of the adapter."""

    frozen: int
    adapter: int
    product: int

    @classmethod
    def of(cls, training: Training) -> _Widths:
        return cls(frozen=compute_bytes(training), adapter=training.adapter_bytes, product=own_bytes(training))

    @property
    def casts(self) -> bool:
        """Whether a module casts its input."""
        return self.adapter != self.frozen

    def cast_beside(self, inputs: int) -> int:
        """The cast of an input while its module runs, where autocast saves a copy of it in the products' dtype."""
        return self.adapter * inputs if self.casts and self.product != self.adapter else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Saved:
    """What one module saves, and what it holds for a moment on top of that.

    Attributes:
        token: bytes saved per token, without an input that is the module's own.
        reads: bytes per element of the module's own input that it saves, which modules with the same input share.
        fixed: bytes saved whatever the number of tokens.
        forward, backward: the moments of its forward and of its backward pass.
        again: where its recomputation ends, if it is the layer's last module.
        held: bytes per token of gradients that have come in when that recomputation begins, which is where the backward
            pass first needs a saved tensor.
    """

    token: int = 0
    reads: int = 0
    fixed: int = 0
    forward: tuple[_Bytes, ...] = ()
    backward: tuple[_Bytes, ...] = ()
    again: _Bytes = (0, 0)
    held: int = 0


def _input(linear: Linear, widths: _Widths) -> tuple[int, int]:
    """Bytes per token of a cast of the input that a matrix product saves, or the width of the module's own input."""
    return (widths.product * linear.inputs, 0) if widths.casts else (0, widths.product)


def _ends(linear: Linear, widths: _Widths) -> int:
    """Bytes per token where a module's recomputation ends whose result is added to the frozen one: its input and the
    cast of it, and the frozen result."""
    if not widths.casts:
        return 0
    return widths.frozen * (linear.inputs + linear.outputs) + widths.cast_beside(linear.inputs)


def _held(linear: Linear, widths: _Widths) -> int:
    """Bytes per token of the gradients of a sum in the adapter's dtype: of its result and of the frozen one."""
    return (widths.adapter + widths.frozen) * linear.outputs if widths.casts else 0


def _adalora(linear: Linear, lora: Lora, widths: _Widths) -> _Saved:
    cast, reads = _input(linear, widths)
    inputs, outputs = linear.inputs, linear.outputs
    scaled = widths.product * outputs if widths.casts else 0
    # the quotient by `ranknum`, in its backward: the gradient, two quotients, a negation and a product
    quotient = (5 if widths.casts else 2) * widths.adapter * outputs
    return _Saved(
        token=cast + widths.product * lora.rank + scaled,
        reads=reads,
        fixed=widths.product * lora.rank * inputs,
        forward=((widths.cast_beside(inputs) + (widths.frozen + widths.adapter) * outputs, 0),),
        backward=((quotient, 0), (2 * widths.adapter * inputs, 0)),
        again=(_ends(linear, widths), 0),
        held=widths.adapter * outputs if widths.casts else 0,  # added in place: the frozen result's is the layer's
    )


def _ia3(linear: Linear, lora: Lora, widths: _Widths) -> _Saved:
    inward = linear.module in lora.inward
    size = linear.inputs if inward else linear.outputs
    moment = (widths.adapter + widths.frozen) * size
    return _Saved(
        token=(widths.adapter * size if widths.casts else 0) if inward else widths.frozen * size,
        reads=widths.frozen if inward and not widths.casts else 0,
        forward=((moment, 0),),
        backward=((3 * widths.adapter * size if widths.casts else 2 * widths.frozen * size, 0),),
        again=((moment + widths.frozen * size if inward else moment) if widths.casts else 0, 0),
    )


def _vera(linear: Linear, lora: Lora, widths: _Widths) -> _Saved:
    inputs, outputs = linear.inputs, linear.outputs
    cast = widths.adapter * inputs if widths.casts else 0  # its frozen matrix does not save it
    ends = widths.frozen * (inputs + outputs) + cast
    copied = widths.product * lora.rank * (inputs + outputs) if widths.cast_beside(1) else 0  # the frozen pair
    return _Saved(
        token=widths.product * (lora.rank + outputs),
        fixed=copied,
        forward=((cast + 2 * widths.adapter * outputs, 0),),
        backward=((3 * widths.adapter * outputs, 0), (2 * widths.adapter * inputs, 0)),
        again=(ends if widths.casts else 0, 0),
        held=_held(linear, widths),
    )


def _oft(linear: Linear, lora: Lora, widths: _Widths) -> _Saved:
    del lora
    cast, reads = _input(linear, widths)
    inputs, casts = linear.inputs, widths.casts
    # blocks that are turned, and their copy in the input's layout; under autocast the cast of that back
    turned = 2 * widths.product + (widths.adapter if widths.cast_beside(1) else 0) + (widths.frozen if casts else 0)
    return _Saved(
        token=cast,
        reads=reads,
        fixed=4 * 32 * inputs * widths.adapter,
        forward=((turned * inputs + widths.cast_beside(inputs), 0),),
        backward=((2 * widths.adapter * inputs + (widths.frozen * inputs if casts else 0), 0),),
    )


def _loha(linear: Linear, lora: Lora, widths: _Widths) -> _Saved:
    del lora
    # under autocast the factors' product, and so the input that it takes, is in the products' dtype
    casts = widths.casts and widths.product != widths.frozen
    inputs, outputs, matrix = linear.inputs, linear.outputs, linear.inputs * linear.outputs
    product, adapter = widths.product, widths.adapter
    return _Saved(
        token=product * inputs if casts else 0,
        reads=0 if casts else product,
        fixed=product * matrix,
        # two products and theirs, of which the scaled one is saved
        forward=((0, 2 * product * matrix), (2 * product * outputs, 0)),
        # the matrix's gradient and that scaled, one product and the last one's gradient and its own, for the matrix
        backward=(
            ((2 * widths.frozen - product) * inputs if casts else 0, (product + 3 * adapter) * matrix),
            (product * (inputs + outputs), product * matrix),
        ),
        again=(_ends(linear, widths) if casts else 0, 0),
        held=_held(linear, widths) if casts else 0,
    )


def _lokr(linear: Linear, lora: Lora, widths: _Widths) -> _Saved:
    del lora
    cast, reads = _input(linear, widths)
    inputs, outputs, matrix = linear.inputs, linear.outputs, linear.inputs * linear.outputs
    product, adapter = widths.product, widths.adapter
    whole = adapter * matrix if widths.cast_beside(1) else 0  # the matrix that autocast has copied
    return _Saved(
        token=cast,
        reads=reads,
        fixed=product * matrix,
        forward=(
            (widths.frozen * (inputs + outputs) - cast if widths.casts else 0, (2 * adapter - product) * matrix),
            (2 * product * outputs + widths.cast_beside(inputs), whole),
        ),
        backward=(
            # the scaled gradient, and its products with both factors; the saved matrix is freed by then
            (0, (3 * adapter - product) * matrix),
            (product * (inputs + outputs), product * matrix),
        ),
        again=(_ends(linear, widths), whole),
        held=_held(linear, widths),
    )


def _boft(linear: Linear, lora: Lora, widths: _Widths) -> _Saved:
    del lora
    # nothing of it casts the input: rotations are in the dtype of the frozen layer, the permutation is cast to it
    frozen, square = widths.frozen, widths.frozen * linear.inputs**2
    scaled = max(widths.adapter, frozen) * linear.outputs
    return _Saved(
        token=frozen * linear.outputs,
        reads=frozen,
        fixed=square * (2 if frozen == _PERMUTED else 3),
        forward=((2 * frozen * linear.inputs + scaled, 0),),
        backward=((2 * scaled, 0), (2 * frozen * linear.inputs, square), (0, 3 * square)),
    )


_PERMUTED: Final = 4
"""Bytes per element of BOFT's permutations, which are float32."""

_SAVED: Final[dict[str, Callable[[Linear, Lora, _Widths], _Saved]]] = {
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
    kept, backward, widths = [], [], _Widths.of(training)
    tokens, whole = scenario.batch * scenario.seq, training.checkpointing == "full"
    for index, layer in enumerate(layers):
        linears = source.linears(model, scenario, index) or ()
        chosen = [linear for linear in linears if is_one(linear, modules)]
        saved = [saves(linear, lora, widths) for linear in chosen]
        sums = [_bytes(tokens, chosen[:count], saved) for count in range(len(chosen) + 1)]
        # the last module's own is freed by the frozen layer's peak, but for an input that is scaled before it
        last = isinstance(layer.ffn, Dense) and bool(chosen) and chosen[-1] == linears[-1]
        between = sums[-2] if last and not lora.inward else sums[-1]
        begun = found.begun[index] if found.begun else found.layers[index]
        held = tokens * saved[-1].held if whole and saved and chosen[-1] == linears[-1] else 0
        run = begun + held if whole else found.layers[index]
        moments = [
            *(begun + own + _most(tokens, one.backward) for own, one in zip(sums[1:], saved, strict=True)),
            *(run + own + _most(tokens, one.forward) for own, one in zip(sums[1:], saved, strict=True)),
            begun + held + sums[-1] + _most(tokens, (saved[-1].again,)) if whole and saved else 0,
        ]
        kept.append(found.layers[index] + (0 if whole else sums[-1]))
        backward.append(max(found.backward[index] + between, *moments))
    return replace(found, layers=tuple(kept), backward=tuple(backward))


def _most(tokens: int, moments: Sequence[_Bytes]) -> int:
    return max((tokens * each + fixed for each, fixed in moments), default=0)


def _bytes(tokens: int, linears: Sequence[Linear], saved: Sequence[_Saved]) -> int:
    """What modules save; inputs that the frozen layer saves anyway are not counted, and shared ones once."""
    pairs = list(zip(linears, saved, strict=False))
    shared = {one.shares_input_with: each.reads * one.inputs for one, each in pairs if not one.input_saved}
    token = sum(each.token for _, each in pairs) + sum(shared.values())
    return tokens * token + sum(each.fixed for _, each in pairs)
