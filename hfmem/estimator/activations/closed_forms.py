"""Activations saved for the backward pass by closed forms, for model types without measured coefficients.

The formulas describe decoders in transformers. Per token, a gated layer with RMSNorm in bf16 saves 16 bytes per hidden
unit, 4 per query unit, 4 per key/value unit, 8 per feed-forward unit, and the log-sum-exp of each head. A frozen layer
saves neither the outputs of its norms nor the inputs of its matrices, which only weight gradients need.
"""

from __future__ import annotations

from hfmem.estimator.activations.source import Linear, TrainingActivations
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.recipe.values import Training, TrainingScenario
from hfmem.mapper.caches import KV, Combined, Latent, State
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import module_of
from hfmem.mapper.values import Architecture, Dense, Experts, Layer, TensorGroup
from hfmem.unknown import Unknown

__all__ = ["ClosedForms", "closed_linears", "widths"]


class ClosedForms:
    """Formulas for decoders in transformers."""

    of_one_rank = False
    brings_adapters = False
    takes_adapters = True

    def activations(self, model: Model, scenario: TrainingScenario, plan: Parallel) -> TrainingActivations | Unknown:
        """Bytes of the unsplit layers, or why they are unknown."""
        del plan  # the caller divides the bytes of whole layers over ranks
        architecture, training = model.architecture, scenario.training
        hidden = architecture.hidden_size
        if architecture.layers is None or hidden is None:
            return Unknown(architecture.unknown or "the layers of the architecture are not known")
        tokens = scenario.batch * scenario.seq
        saved = [tokens * _saved(layer, hidden, training) + _scores(layer, scenario) for layer in architecture.layers]
        # with full checkpointing, a layer's saved tensors exist only during its own backward, after recomputation
        transient = [tokens * _transient(layer, hidden, training) for layer in architecture.layers]
        width = _width(training)
        whole = training.checkpointing == "full"
        kept = [tokens * hidden * width if whole else size for size in saved]
        again = kept if whole else [0] * len(saved)
        return TrainingActivations(
            outside=0,
            layers=tuple(kept),
            logits=_logits(architecture, tokens, width),
            backward=tuple(a + s + t for a, s, t in zip(again, saved, transient, strict=True)),
            begun=tuple(a + s + tokens * hidden * width for a, s in zip(again, saved, strict=True)),
            certainty="typical",
            how=f"{tokens:,} tokens × what each of {len(saved)} layers saves",
            source="closed forms for decoders in transformers 5, bf16, SDPA",
        )

    def counts_encoder(self, model: Model, scenario: TrainingScenario) -> bool:
        """False: the formulas describe decoders only."""
        del model, scenario
        return False

    def linears(self, model: Model, scenario: TrainingScenario, index: int) -> tuple[Linear, ...]:
        """The linear modules that every layer has in the same number."""
        del scenario
        return closed_linears(model, index)


def closed_linears(model: Model, index: int) -> tuple[Linear, ...]:
    """The linear modules of a layer, from the parameter table."""
    architecture = model.architecture
    if model.parameters is None or architecture.layers is None:
        return ()
    hidden, depth = architecture.hidden_size or 0, len(architecture.layers)
    layer = architecture.layers[index]
    found = []
    for group in model.parameters.groups:
        # a group whose tensors do not divide evenly over the layers cannot be assigned to one of them
        if not group.linear or len(group.shape) != 2 or group.component not in _HERE or group.count % depth:
            continue
        if group.component == "mlp" and not isinstance(layer.ffn, Dense):
            continue
        found += [_linear(group, hidden)] * (group.count // depth)
    return tuple(found)


_HERE = ("attention", "mlp", "shared_experts", "state")


def _linear(group: TensorGroup, hidden: int) -> Linear:
    outputs, inputs = group.shape
    # modules that read the residual stream share a norm's output as input; those that write to it have their own input
    back = outputs == hidden and not group.reads_stream
    number = {"attention": 0, "mlp": 2, "shared_experts": 4, "state": 6}.get(group.component, 8) + (1 if back else 0)
    return Linear(
        module=module_of(group), inputs=inputs, outputs=outputs, shares_input_with=number, input_saved=number == 1
    )


def _casts(training: Training) -> bool:
    """Whether autocast turns float32 into 16 bits for each matrix; FSDP gathers its units in the compute dtype."""
    return training.precision.autocast and training.precision.weights == "float32" and not training.fsdp


def _width(training: Training) -> int:
    """Bytes of an element of the residual stream, which starts as a row of the embedding and is not cast."""
    wide = training.precision.compute == "float32" or _casts(training)
    return training.stack.residual or (4 if wide else 2)


def _saved(layer: Layer, hidden: int, training: Training) -> int:
    """Bytes per token that a layer saves, without attention scores."""
    query, keys = widths(layer)
    frozen = training.method != "full"
    units, router = _units(layer, hidden)
    gate = 3 if isinstance(layer.ffn, Dense) and not layer.ffn.gated else 4
    per_unit = 2 * (gate - 1 if frozen else gate)
    elements = (0 if frozen else 8) * hidden + 4 * query + 4 * keys + per_unit * units
    if training.precision.compute == "float32":
        return 8 * hidden + 2 * elements + 4 * layer.heads + router + 8
    cast = 10 * hidden if _casts(training) else 0
    return 8 * hidden + elements + cast + 4 * layer.heads + router + 8


def _transient(layer: Layer, hidden: int, training: Training) -> int:
    """Bytes per token allocated in the feed-forward network's backward: gradients of its three inner tensors."""
    units, _ = _units(layer, hidden)
    width = 2 if training.precision.compute == "float32" else 1
    return width * 6 * units if units else width * 4 * hidden


def _scores(layer: Layer, scenario: TrainingScenario) -> int:
    """Bytes of one layer's attention scores (heads × seq²), where the implementation saves them."""
    training = scenario.training
    if scenario.attention != "eager" or training.checkpointing == "selective":
        return 0
    # in 16 bits: the float32 softmax (4) and its cast to the compute dtype (2)
    width = 8 if training.precision.compute == "float32" else 6
    return width * layer.heads * scenario.batch * scenario.seq**2


def _units(layer: Layer, hidden: int) -> tuple[int, int]:
    """Intermediate units that a token uses, and its bytes of routing: router scores, copies of the token, their sum."""
    if isinstance(layer.ffn, Dense):
        return layer.ffn.intermediate, 0
    if isinstance(layer.ffn, Experts):
        experts = layer.ffn
        used = experts.per_token * experts.intermediate + experts.shared
        return used, 4 * experts.count + 4 * experts.per_token * hidden
    return 0, 0


def widths(layer: Layer) -> tuple[int, int]:
    """Elements per token of the queries, and the mean of those of the keys and of the values."""
    cache = layer.cache
    if isinstance(cache, Combined):
        cache = cache.caches[0]  # the attention's; recurrent states come after it
    if isinstance(cache, KV | Latent):
        heads = max(cache.heads, 1)
        return layer.heads * cache.key_dim, heads * (cache.key_dim + (cache.value_dim or cache.key_dim)) // 2
    if isinstance(cache, State):
        return max(cache.conv // 2, 0), 0
    return 0, 0


def _logits(architecture: Architecture, tokens: int, width: int) -> int:
    if architecture.head != "lm_head" or architecture.vocab_size is None:
        return 0
    # 12: float32 log-softmax, its gradient and that of the logits. 5 + 2 × width: the last norm's input, copies and
    # output, and a gradient
    return tokens * (12 * architecture.vocab_size + (5 + 2 * width) * (architecture.hidden_size or 0))
