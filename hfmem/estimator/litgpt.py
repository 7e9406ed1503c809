"""Activations of a layer in LitGPT with adapters on a frozen bf16 base, without checkpointing.

Measured with `torch.autograd.graph.saved_tensors_hooks` on litgpt 0.4 (lora.py, model.py), bytes a token: H hidden,
Q query width, K key/value width, F feed-forward units.

    norms       RMSNorm a float32 copy 4H each; LayerNorm its input 2H once, as both read the same stream
    attention   queries and keys after rotation 2Q + 2K, the fused projection that values are a view of 2(Q + 2K), and
                the output 2Q; with grouped heads keys and values are expanded to Q, and nothing fused stays: 8Q
    feed-forward  6F where it is gated (both projections and the activation), else 2F
    adapters    a mask H and its input 2H for each adapted matrix (one for q, k and v together), and what is added to
                q, k and v, 2 B an output, unless all three are adapted
"""

from __future__ import annotations

from hfmem.estimator.closed_forms import closed_linears, widths
from hfmem.estimator.training_values import Linear, Training, TrainingActivations
from hfmem.estimator.values import Scenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import adapters
from hfmem.mapper.values import Dense, Experts, Layer

__all__ = ["litgpt_activations"]

_SOURCE = "saved tensors of litgpt 0.4 (lora.py, model.py), masks of one byte as CUDA keeps them"


def litgpt_activations(model: Model, scenario: Scenario) -> TrainingActivations | str:
    """The bytes of one GPU, adapters included."""
    architecture, training = model.architecture, scenario.training
    hidden = architecture.hidden_size
    if architecture.layers is None or hidden is None or training is None or model.parameters is None:
        return architecture.unknown or "the layers of the architecture are not known"
    if training.lora is None:
        return "only adapters are described for this stack"
    tokens = scenario.batch * scenario.seq
    norms = _norms(model, hidden, len(architecture.layers))
    saved = []
    for index, layer in enumerate(architecture.layers):
        saved.append(tokens * (norms + _attention(layer) + _feed_forward(layer) + _adapters(model, training, index)))
    whole = training.checkpointing == "full"
    again = 2 * tokens * hidden if whole else 0
    transient = [4 * tokens * _units(layer) for layer in architecture.layers]
    return TrainingActivations(
        outside=tokens * 6 * hidden,
        layers=tuple(again if whole else size for size in saved),
        logits=0,
        backward=tuple(again + size + more for size, more in zip(saved, transient, strict=True)),
        certainty="measured",
        how=f"{tokens:,} tokens × what each of {len(saved)} layers saves",
        source=_SOURCE,
    )


def _norms(model: Model, hidden: int, depth: int) -> int:
    groups = [group for group in model.parameters.groups if group.component == "norm"] if model.parameters else []
    if any(group.role.endswith("bias") for group in groups):
        return 2 * hidden
    count = sum(group.count for group in groups if group.shape == (hidden,))
    return 4 * hidden * (count // depth)


def _attention(layer: Layer) -> int:
    query, keys = widths(layer)
    if keys < query:
        return 8 * query
    return 2 * query + 2 * keys + 2 * (query + 2 * keys) + 2 * query


def _units(layer: Layer) -> int:
    if isinstance(layer.ffn, Dense):
        return layer.ffn.intermediate
    return layer.ffn.per_token * layer.ffn.intermediate if isinstance(layer.ffn, Experts) else 0


def _feed_forward(layer: Layer) -> int:
    plain = isinstance(layer.ffn, Dense) and not layer.ffn.gated
    return (2 if plain else 6) * _units(layer)


def _adapters(model: Model, training: Training, index: int) -> int:
    lora = training.lora
    if lora is None or model.parameters is None:
        return 0
    found = adapters(model.parameters, lora.targets, model.architecture.model_type)
    roles = {adapter.group.role for adapter in found}
    adapted = [linear for linear in closed_linears(model, index) if linear.role in roles]
    return _inwards(adapted, lora.dropout) + _others(adapted, lora.dropout)


def _inwards(adapted: list[Linear], dropout: float) -> int:
    """Of the fused projection to queries, keys and values: what is adapted of it, and its one input."""
    inwards = [linear for linear in adapted if linear.shares_input_with == 0]
    if not inwards:
        return 0
    outputs = sum(linear.outputs for linear in inwards)
    added = outputs if len(inwards) == 2 else outputs * 2 // 3 if len(inwards) == 1 else 0
    return 2 * added + (3 if dropout else 2) * inwards[0].inputs


def _others(adapted: list[Linear], dropout: float) -> int:
    return sum((3 if dropout else 2) * linear.inputs for linear in adapted if linear.shares_input_with != 0)
