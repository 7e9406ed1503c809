"""What adapters save besides the frozen layers (peft 0.21, tuners/lora/layer.py, Linear.forward)."""

from __future__ import annotations

from hfmem.estimator.training_activations import adapted_linears
from hfmem.estimator.training_values import Linear, Lora, Training
from hfmem.estimator.values import Scenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import adapters

__all__ = ["adapter_activations"]

_MASK = 1  # bytes an element: native_dropout of CUDA keeps booleans


def adapter_activations(model: Model, scenario: Scenario, training: Training) -> tuple[int, ...]:
    """Bytes that the adapters of each layer save."""
    lora, layers = training.lora, model.architecture.layers
    if lora is None or layers is None or model.parameters is None:
        return ()
    tokens = scenario.batch * scenario.seq
    found = adapters(model.parameters, lora.targets, model.architecture.model_type)
    roles = {(adapter.group.role, *adapter.group.shape[-2:]) for adapter in found}
    sizes: dict[int, int] = {}
    by_layer: dict[object, int] = {}
    for index, layer in enumerate(layers):
        if layer not in by_layer:
            adapted = [
                linear
                for linear in adapted_linears(model, scenario, index)
                if {(linear.role, linear.outputs, linear.inputs), (linear.role, linear.inputs, linear.outputs)} & roles
            ]
            by_layer[layer] = tokens * _token(adapted, lora, training)
        sizes[index] = by_layer[layer]
    return tuple(sizes[index] for index in range(len(layers)))


def _token(adapted: list[Linear], lora: Lora, training: Training) -> int:
    """Bytes a token.

    The first matrix saves its input: with float32 adapters a cast of its own; under autocast a copy in the compute
    dtype; with adapters in the compute dtype the module's input itself, which modules of one input share. Dropout makes
    that input anew for each module, and keeps a mask. The second matrix saves the first one's output.
    """
    compute = 4 if training.precision.compute == "float32" else 2
    own = compute if _autocast(training) else training.adapter_bytes
    total = sum(lora.rank * own for _ in adapted)
    if lora.dropout:
        return total + sum(linear.inputs * (own + _MASK) for linear in adapted)
    if training.adapter_bytes != compute:
        return total + sum(linear.inputs * own for linear in adapted)
    shared = {linear.shares_input_with: linear.inputs for linear in adapted if not linear.input_saved}
    return total + own * sum(shared.values())


def _autocast(training: Training) -> bool:
    return training.precision.autocast or training.stack.autocast
