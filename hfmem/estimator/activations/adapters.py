"""What adapters hold besides the frozen layers (peft 0.21, tuners/lora/layer.py, Linear.forward).

A layer of linear modules 1 … n, adapted, whose backward pass goes from n to 1:

    kept         what the frozen layer keeps + what each adapter keeps
    between      a moment of the frozen layer's backward + what the adapters of modules whose turn is still to come keep
    at module i  what the layer keeps and the gradient of its output + what adapters 1 … i-1 keep
                 + two tensors like the module's input: the gradient through the frozen matrix, and that through the
                 adapter; or, while the adapter's own is made, what adapter i keeps and that gradient

Experts are one parameter, no module: PEFT makes that parameter anew with what its adapter adds (`_LoraFactorsProxy`,
one `baddbmm`), which stays for the backward pass with the inputs of its experts, and gets a gradient as large.

Module n is taken to be done at the frozen layer's highest moment, where a feed-forward network of matrices ends the
layer; what the layer keeps for operations behind module i is taken to be there still. The sum of the two is
made in place of the first (`accumulate` of torch/csrc/autograd/input_buffer.cpp); under a dispatch mode such as
`MemTracker` PyTorch makes a third tensor for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hfmem.dtypes import find_dtype
from hfmem.estimator.activations.source import ActivationSource, Linear, TrainingActivations
from hfmem.estimator.recipe.values import Lora, Training, TrainingScenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import Adapter, adapters
from hfmem.mapper.values import Dense, Experts, Layer

__all__ = ["with_adapters"]

_GRADIENTS_AT_ONCE = 3
"""Tensors like a module's input that its backward holds at once: the module's gradient of it, the adapter's, and their
sum, which is not made in place, because the first is a view of two dimensions (PyTorch 2.13, `aten::add` in its
profiler)."""

_MASK = 1  # bytes per element: native_dropout of CUDA keeps booleans


def with_adapters(
    model: Model, scenario: TrainingScenario, found: TrainingActivations, source: ActivationSource
) -> TrainingActivations:
    """The activations of frozen layers, with those of their adapters; `source` tells the modules of a layer."""
    training, layers = scenario.training, model.architecture.layers
    lora = training.lora
    if lora is None or layers is None or model.parameters is None:
        return found
    targets = adapters(model, lora.targets)
    modules: set[_Key] = {(adapter.module, *adapter.group.shape[-2:]) for adapter in targets}
    whole = training.checkpointing == "full"
    by_layer: dict[Layer, _Adapted] = {}
    kept, backward = [], []
    experts = _Remade.of(model, training, targets)
    for index, layer in enumerate(layers):
        if layer not in by_layer:
            linears = source.linears(model, scenario, index) or ()
            by_layer[layer] = _adapted(linears, modules, lora, training, last=isinstance(layer.ffn, Dense))
        more, tokens = by_layer[layer], scenario.batch * scenario.seq
        stays, inside, gradient = experts.bytes(layer, tokens)
        kept.append(found.layers[index] + (0 if whole else tokens * more.kept + stays))
        between = found.backward[index] + tokens * more.between + inside
        at_module = found.begun[index] + tokens * more.at_module + stays
        at_experts = found.begun[index] + tokens * more.kept + gradient
        backward.append(max(between, at_module if more.kept else 0, at_experts if gradient else 0))
    of_encoder = 0 if whole else _of_encoder(model, scenario, targets, source)
    return replace(found, outside=found.outside + of_encoder, layers=tuple(kept), backward=tuple(backward))


_Key = tuple[object, ...]
"""A module's label and the sizes of its matrix."""


def _of_encoder(model: Model, scenario: TrainingScenario, targets: Sequence[Adapter], source: ActivationSource) -> int:
    """What the adapters of an encoder keep: those that the decoder's layers do not have."""
    training, layers = scenario.training, model.architecture.layers or ()
    lora = training.lora
    if model.architecture.source != "encoder" or lora is None:
        return 0
    inside = Counter(
        (linear.module, linear.outputs, linear.inputs)
        for index in range(len(layers))
        for linear in source.linears(model, scenario, index) or ()
    )
    total = 0
    for adapter in targets:
        key = (adapter.module, adapter.outputs, adapter.inputs)
        others = max(0, adapter.count - inside[key]) if adapter.group.component in ("attention", "mlp") else 0
        one = Linear(
            module=adapter.module,
            inputs=adapter.inputs,
            outputs=adapter.outputs,
            shares_input_with=0,
            input_saved=False,
        )
        total += others * _token((one,), lora, training)
    return total * scenario.batch * (scenario.source_seq or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remade:
    """Experts' parameters with what their adapters add, of one layer.

    Attributes:
        inward, outward: bytes of what leads into the experts' units, and out of them; 0 where it has no adapter.
        inputs: bytes per element of what the experts read.
        hidden: size of the residual stream.
    """

    inward: int = 0
    outward: int = 0
    inputs: int = 2
    hidden: int = 0

    @classmethod
    def of(cls, model: Model, training: Training, targets: Sequence[Adapter]) -> _Remade:
        """Those of a model; nothing for software whose experts are modules."""
        count = sum(isinstance(layer.ffn, Experts) for layer in model.architecture.layers or ())
        groups = [adapter.group for adapter in targets if adapter.group.component == "experts"]
        weights = find_dtype(training.precision.weights)
        if not training.stack.fused_experts or not groups or not count or weights is None:
            return cls()
        inward = sum(group.elements for group in groups if group.inward)
        outward = sum(group.elements for group in groups) - inward
        return cls(
            inward=weights.nbytes(inward) // count,
            outward=weights.nbytes(outward) // count,
            inputs=_compute(training),
            hidden=model.architecture.hidden_size or 0,
        )

    def bytes(self, layer: Layer, tokens: int) -> tuple[int, int, int]:
        """What a layer keeps; what of it is there at the frozen layer's highest moment, among the units, where the way
        out is done; and the most beside the gradients of a parameter and of what it reads, of the way out or in."""
        if not isinstance(layer.ffn, Experts) or not self.inward + self.outward:
            return 0, 0, 0
        rows = tokens * layer.ffn.per_token * self.inputs
        inward = self.inward + (rows * self.hidden if self.inward else 0)
        outward = self.outward + (rows * layer.ffn.intermediate if self.outward else 0)
        out = outward + self.outward + rows * (self.hidden + layer.ffn.intermediate) if self.outward else 0
        return inward + outward, inward, inward + max(out, self.inward + rows * self.hidden if self.inward else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Adapted:
    """Bytes per token beyond the frozen layer: kept, at its own highest moment, and at the highest of its modules."""

    kept: int
    between: int
    at_module: int


def _adapted(linears: Sequence[Linear], modules: set[_Key], lora: Lora, training: Training, *, last: bool) -> _Adapted:
    chosen = [
        linear
        for linear in linears
        if {(linear.module, linear.outputs, linear.inputs), (linear.module, linear.inputs, linear.outputs)} & modules
    ]
    totals = [_token(chosen[:count], lora, training) for count in range(len(chosen) + 1)]
    compute = _compute(training)
    own = max(_own(training), compute)
    moments = [
        max(totals[index] + _GRADIENTS_AT_ONCE * compute * linear.inputs, totals[index + 1] + own * linear.inputs)
        for index, linear in enumerate(chosen)
    ]
    done = last and bool(chosen) and chosen[-1] == linears[-1]
    return _Adapted(kept=totals[-1], between=totals[-2] if done else totals[-1], at_module=max(moments, default=0))


def _token(adapted: Sequence[Linear], lora: Lora, training: Training) -> int:
    """Bytes per token that some adapters keep.

    The first matrix saves its input: with float32 adapters a cast of its own; under autocast a copy in the compute
    dtype; with adapters in the compute dtype the module's input itself, which modules of one input share. Dropout makes
    that input anew for each module, and keeps a mask. The second matrix saves the first one's output.
    """
    own = _own(training)
    total = sum(lora.rank * own for _ in adapted)
    if lora.dropout:
        return total + sum(linear.inputs * (own + _MASK) for linear in adapted)
    if training.adapter_bytes != _compute(training):
        return total + sum(linear.inputs * own for linear in adapted)
    shared = {linear.shares_input_with: linear.inputs for linear in adapted if not linear.input_saved}
    return total + own * sum(shared.values())


def _compute(training: Training) -> int:
    return 4 if training.precision.compute == "float32" else 2


def _own(training: Training) -> int:
    """Bytes per element that adapters compute in."""
    return _compute(training) if training.precision.autocast or training.stack.autocast else training.adapter_bytes
