"""Activations of LoRA adapters, on top of the frozen layers (peft 0.21, tuners/lora/layer.py, Linear.forward).

For a layer with adapted linear modules 1 … n, whose backward pass runs from n to 1:

    kept         saved tensors of the frozen layer + saved tensors of each adapter
    between      the peak of the frozen layer's backward + saved tensors of the adapters that are still to run: those
                 before the attention scores, where eager attention has the peak
    at module i  saved tensors of the layer and the gradient of its output + saved tensors of adapters 1 … i-1
                 + two tensors shaped like the module's input: the gradients through the frozen matrix and through the
                 adapter; or, during the adapter's own backward, its saved tensors and that one gradient

Fused experts are one parameter, not modules: PEFT materialises the parameter with the adapter's delta added
(`_LoraFactorsProxy`, one `baddbmm`). It is saved for backward together with the experts' inputs, and gets a gradient of
its own size.

DoRA (peft 0.21.2, tuners/lora/dora.py, DoraLinearLayer.forward) scales each output by a magnitude over the norm of the
adapted weight. It saves two tensors like the module's output for the magnitude's gradient (the frozen result and the
adapter's), and forms the adapter's whole matrix in each forward pass: `lora_B(lora_A(eye))`, whose identity of inputs ×
inputs stays until the module returns. That is alive on top of what is saved so far: in the forward pass of the last
layers, and with gradient checkpointing in the recomputation of each.

Two assumptions: where a feed-forward network of linear modules ends the layer, module n is done by the time of the
frozen layer's peak; tensors that the layer saves for operations after module i are still alive at module i. The two
gradients are summed in place (`accumulate` in torch/csrc/autograd/input_buffer.cpp), but under a dispatch mode such as
`MemTracker` PyTorch allocates a third tensor for the sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hfmem.dtypes import find_dtype
from hfmem.estimator.activations.source import ActivationSource, Linear, TrainingActivations, TrainingEncoder
from hfmem.estimator.recipe.values import Lora, Training, TrainingScenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import Adapter, adapters, linear_modules
from hfmem.mapper.values import Dense, Experts, Layer, ParameterTable

__all__ = ["GRADIENTS_AT_ONCE", "compute_bytes", "is_one", "linear_of", "own_bytes", "token_bytes", "with_adapters"]

GRADIENTS_AT_ONCE = 3
"""Tensors like a module's input that its backward holds at once: the module's gradient of it, the adapter's, and their
sum, which is not made in place, because the first is a view of two dimensions (PyTorch 2.13, `aten::add` in its
profiler)."""

_SCALED = 3
"""Tensors like a module's output that DoRA holds at once while it scales: the scaled frozen result, the scaled result
of the adapter, and a third, which is an intermediate or their sum; in its backward, the gradient, the adapter's
gradient and a product of the gradient with a saved result."""

_MASK = 1  # bytes per element: native_dropout of CUDA keeps booleans


def with_adapters(
    model: Model, scenario: TrainingScenario, found: TrainingActivations, source: ActivationSource
) -> TrainingActivations:
    """The activations of frozen layers plus those of their adapters; `source` lists the modules of each layer."""
    training, layers = scenario.training, model.architecture.layers
    lora = training.lora
    if lora is None or layers is None or model.parameters is None:
        return found
    targets = adapters(model, lora.targets)
    modules: set[_Key] = {(adapter.module, *adapter.group.shape[-2:]) for adapter in targets}
    attention = _attention(model.parameters)
    whole = training.checkpointing == "full"
    by_layer: dict[Layer, _Adapted] = {}
    kept, backward, forward = [], [], []
    experts = _Remade.of(model, training, targets)
    for index, layer in enumerate(layers):
        if layer not in by_layer:
            linears = source.linears(model, scenario, index) or ()
            before = _before_scores(linears, attention)
            last = isinstance(layer.ffn, Dense)
            by_layer[layer] = _adapted(linears, modules, lora, training, before=before, last=last)
        more, tokens = by_layer[layer], scenario.batch * scenario.seq
        stays, inside, gradient = experts.bytes(layer, tokens)
        kept.append(found.layers[index] + (0 if whole else tokens * more.kept + stays))
        backward.append(_highest(found, index, more, tokens, (stays, inside, gradient), whole=whole))
        attends = bool(found.attending) and bool(found.attending[index])
        saved = 0 if whole else tokens * (more.before_scores if attends else more.kept) + stays
        there = found.forward[index] if found.forward else 0
        forward.append(there and there + saved)
    encoder = _heard(found, scenario, modules, attention)
    # with full checkpointing, encoder layers too save only their inputs
    of_encoder = 0 if whole or encoder is not None else _of_encoder(model, scenario, targets, source)
    if encoder is not None and found.encoder is not None:
        of_encoder = encoder.layers * (encoder.kept - found.encoder.kept)
    outside = found.outside + of_encoder + _of_head(scenario, targets)
    found = replace(found, encoder=encoder)
    return replace(found, outside=outside, layers=tuple(kept), backward=tuple(backward), forward=tuple(forward))


def _attention(parameters: ParameterTable) -> set[_Key]:
    """The linear modules of attention."""
    groups = linear_modules(parameters)
    return {(group.module, *group.shape[-2:]) for group in groups if group.component == "attention"}


def _heard(
    found: TrainingActivations, scenario: TrainingScenario, modules: set[_Key], attention: set[_Key]
) -> TrainingEncoder | None:
    """The encoder with the adapters of its layers, which are like those of the decoder's."""
    training, encoder = scenario.training, found.encoder
    lora = training.lora
    if encoder is None or lora is None:
        return encoder
    whole, tokens = training.checkpointing == "full", scenario.batch * (scenario.source_seq or 0)
    before = _before_scores(encoder.linears, attention)
    more = _adapted(encoder.linears, modules, lora, training, before=before, last=True)
    alone = replace(
        found,
        layers=(encoder.kept,),
        backward=(encoder.backward,),
        begun=(encoder.reached,),
        before_attending=(encoder.before_attending,),
        attending=(encoder.attending,),
    )
    chosen = [linear for linear in encoder.linears if is_one(linear, modules)]
    return replace(
        encoder,
        kept=encoder.kept + (0 if whole else tokens * more.kept),
        backward=_highest(alone, 0, more, tokens, (0, 0, 0), whole=whole),
        trained=sum(lora.rank * (linear.inputs + linear.outputs) for linear in chosen),
    )


def _highest(  # noqa: PLR0913 - the facts of one layer
    found: TrainingActivations,
    index: int,
    more: _Adapted,
    tokens: int,
    experts: tuple[int, int, int],
    *,
    whole: bool,
) -> int:
    """Bytes at the highest moment of a layer's backward pass: experts and adapted modules run theirs at different
    times."""
    stays, inside, gradient = experts
    between = found.backward[index] + tokens * more.between + inside
    if found.attending and found.attending[index]:
        between = max(
            found.before_attending[index] + tokens * more.between + inside,
            found.attending[index] + tokens * more.before_scores,
        )
    begun = found.begun[index]
    at_module = begun + tokens * more.at_module + stays if more.kept else 0
    at_experts = begun + tokens * more.kept + gradient if gradient else 0
    forming = 0
    if more.forms:
        there = begun if whole else found.layers[index]
        forming = there + max(tokens * saved + fixed + tokens * each for saved, fixed, each in more.forms)
    again = begun + tokens * more.recomputed if whole else 0
    return max(between, at_module, at_experts, forming, again)


_Key = tuple[object, ...]
"""A module's label and the sizes of its matrix."""


def linear_of(adapter: Adapter) -> Linear:
    """The module of an adapter, with an input of its own that nothing saves."""
    return Linear(
        module=adapter.module,
        inputs=adapter.inputs,
        outputs=adapter.outputs,
        shares_input_with=0,
        input_saved=False,
    )


def _of_head(scenario: TrainingScenario, targets: Sequence[Adapter]) -> int:
    """Bytes saved by the adapters of linear modules between the layers and the output embedding (BERT's transform)."""
    training, total = scenario.training, 0
    for adapter in targets:
        if training.lora is None or adapter.group.component != "lm_head" or adapter.module != "dense":
            continue
        one = linear_of(adapter)
        total += adapter.count * token_bytes((one,), training.lora, training)
    return total * scenario.batch * scenario.seq


def _of_encoder(model: Model, scenario: TrainingScenario, targets: Sequence[Adapter], source: ActivationSource) -> int:
    """Bytes saved by the adapters of an encoder: all adapters that are not in the decoder's layers."""
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
        one = linear_of(adapter)
        total += others * token_bytes((one,), lora, training)
    return total * scenario.batch * (scenario.source_seq or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remade:
    """Fused expert parameters of one layer, materialised with their adapters' delta.

    Attributes:
        inward, outward: bytes of the gate/up projections, and of the down projection; 0 where it has no adapter.
        inputs: bytes per element of the experts' inputs.
        hidden: hidden size.
    """

    inward: int = 0
    outward: int = 0
    inputs: int = 2
    hidden: int = 0

    @classmethod
    def of(cls, model: Model, training: Training, targets: Sequence[Adapter]) -> _Remade:
        """The parameters of a model; all zero for software whose experts are separate modules."""
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
            inputs=compute_bytes(training),
            hidden=model.architecture.hidden_size or 0,
        )

    def bytes(self, layer: Layer, tokens: int) -> tuple[int, int, int]:
        """Three sums of bytes: saved for backward; of those, alive at the frozen layer's peak, which lies between the
        down and the gate/up projection's backward; and the most during the backward of either projection, including
        the gradients of its parameter and of its input."""
        if not isinstance(layer.ffn, Experts) or not self.inward + self.outward:
            return 0, 0, 0
        rows = tokens * layer.ffn.per_token * self.inputs  # each token is copied once per expert that it is routed to
        inward = self.inward + (rows * self.hidden if self.inward else 0)
        outward = self.outward + (rows * layer.ffn.intermediate if self.outward else 0)
        out = outward + self.outward + rows * (self.hidden + layer.ffn.intermediate) if self.outward else 0
        return inward + outward, inward, inward + max(out, self.inward + rows * self.hidden if self.inward else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Adapted:
    """Bytes per token on top of the frozen layer: saved, at the frozen layer's peak, at the adapters' peak, of the
    modules before the attention scores, and at the end of the layer's recomputation, in its last module (0 where that
    is not known to matter).

    `forms` has the moments in which DoRA forms an adapter's matrix: bytes per token saved so far, bytes of matrices,
    and bytes per token of temporaries.
    """

    kept: int
    between: int
    at_module: int
    before_scores: int
    recomputed: int = 0
    forms: tuple[tuple[int, int, int], ...] = ()


def is_one(linear: Linear, modules: set[_Key]) -> bool:
    """Whether a module is one of some; Conv1D (GPT-2) stores its weight as (inputs, outputs)."""
    return bool(
        {(linear.module, linear.outputs, linear.inputs), (linear.module, linear.inputs, linear.outputs)} & modules
    )


def _before_scores(linears: Sequence[Linear], attention: set[_Key]) -> Sequence[Linear]:
    """The modules that run before the attention scores: those before attention's last, which projects its output."""
    last = max((index for index, linear in enumerate(linears) if is_one(linear, attention)), default=len(linears))
    return linears[:last]


def _adapted(  # noqa: PLR0913 - the facts of one layer
    linears: Sequence[Linear],
    modules: set[_Key],
    lora: Lora,
    training: Training,
    *,
    before: Sequence[Linear],
    last: bool,
) -> _Adapted:
    chosen = [linear for linear in linears if is_one(linear, modules)]
    totals = [token_bytes(chosen[:count], lora, training) for count in range(len(chosen) + 1)]
    compute = compute_bytes(training)
    own = max(own_bytes(training), compute)
    moments = [
        max(
            totals[index] + GRADIENTS_AT_ONCE * compute * linear.inputs,
            totals[index + 1] + own * linear.inputs,
            totals[index + 1] + _SCALED * max(own, training.adapter_bytes) * linear.outputs if lora.dora else 0,
        )
        for index, linear in enumerate(chosen)
    ]
    forms = [
        (totals[index + 1] + _unsaved(linear, chosen[-1], training), *moment)
        for index, linear in enumerate(chosen if lora.dora else ())
        for moment in _forming(linear, lora, training, last=index == len(chosen) - 1)
    ]
    # module n's adapter is freed by the frozen layer's peak only if it is really the layer's last module
    done = last and bool(chosen) and chosen[-1] == linears[-1]
    between = totals[-2] if done else totals[-1]
    return _Adapted(
        kept=totals[-1],
        between=between,
        at_module=max(moments, default=0),
        before_scores=totals[sum(is_one(linear, modules) for linear in before)],
        recomputed=_recomputed(chosen, totals, training) if chosen else 0,
        forms=tuple(forms),
    )


def _recomputed(chosen: Sequence[Linear], totals: Sequence[int], training: Training) -> int:
    """Bytes per token at the highest moment of a layer's recomputation with adapters wider than the layer: in its last
    module, or, without autocast, in another one, whose adapter's result and that scaled are in the adapter's dtype. The
    gradients of the last module's two results are there: recomputation begins where the backward pass first needs a
    saved tensor."""
    compute, width = compute_bytes(training), training.adapter_bytes
    if width == compute:
        return totals[-1]
    last = chosen[-1]
    if own_bytes(training) != width:
        # the cast of its input (`_cast_input_dtype` of peft 0.21.2), of which autocast saves a copy
        return totals[-1] + last.inputs * (compute + width) + 3 * last.outputs * compute
    held = (compute + width) * last.outputs
    inside = [totals[index + 1] + 2 * width * linear.outputs for index, linear in enumerate(chosen[:-1])]
    return held + max(totals[-1] + compute * (last.inputs + last.outputs), *inside, 0)


def _unsaved(linear: Linear, last: Linear, training: Training) -> int:
    """Bytes per token that nothing saves and that are alive while a layer is recomputed with DoRA wider than the layer:
    of the last module, the gradient in the adapter's dtype, that of the frozen result, and that before scaling, as
    recomputation begins where the magnitude's gradient needs a saved tensor; the module's input, where only a cast
    of it is saved, and that of the block that calls it, which is as wide as the layer."""
    compute, width = compute_bytes(training), training.adapter_bytes
    if training.checkpointing != "full" or width == compute:
        return 0
    unsaved = 0 if linear.input_saved else linear.inputs
    return (2 * width + compute) * last.outputs + compute * (unsaved + last.outputs)


def _forming(linear: Linear, lora: Lora, training: Training, *, last: bool) -> tuple[tuple[int, int], ...]:
    """Bytes of matrices, and bytes per token of temporaries, while DoRA forms an adapter's matrix, takes the norm of
    the adapted one, and scales the outputs; `last` is the module in which a recomputation ends.

    Under autocast with wider adapters the identity and the matrix are cast, the input is cast to the adapter's dtype,
    and autocast saves a cast of that. The magnitude over the norm is as wide as the adapter, and a product is as wide
    as its wider factor, under autocast too. A recomputation ends where its last saved tensor is there, which is before
    the adapter's result is scaled.
    """
    width, own = training.adapter_bytes, own_bytes(training)
    elements = linear.inputs * linear.outputs
    identity = own * linear.inputs * (linear.inputs + lora.rank)
    cast, wide = (width * linear.inputs, width * linear.inputs**2) if own != width else (0, 0)
    stay = identity + max(own, width) * elements
    frozen = find_dtype(training.precision.weights)
    if training.method == "qlora":
        stay += compute_bytes(training) * elements  # dequantised
    if frozen is None or frozen.bytes_each != width:
        stay += width * elements
    scaled = 1 if last and training.checkpointing == "full" else _SCALED
    return (
        (identity + wide + own * elements, cast),
        (stay + 2 * width * elements, cast),  # the scaled adapter and its sum with the frozen matrix
        (stay, cast + scaled * max(own, width) * linear.outputs),
    )


def token_bytes(adapted: Sequence[Linear], lora: Lora, training: Training) -> int:
    """Bytes per token that adapters save for backward.

    `lora_A` saves its input: with float32 adapters a cast of its own; under autocast a copy in the compute dtype; with
    adapters in the compute dtype the module's input itself, which modules with the same input share. Dropout makes a
    new input for each module, and saves a mask. `lora_B` saves the output of `lora_A`, `rank` elements.
    """
    own = own_bytes(training)
    total = sum(lora.rank * own for _ in adapted)
    if lora.dora:
        # without dropout the frozen result is the module's own; with it, that of the dropped-out input
        result = (
            max(own, training.adapter_bytes)
            if lora.dropout and not training.precision.autocast
            else compute_bytes(training)
        )
        total += sum(linear.outputs * (own + result) for linear in adapted)
    if lora.dropout:
        return total + sum(linear.inputs * (own + _MASK) for linear in adapted)
    if training.adapter_bytes != compute_bytes(training):
        return total + sum(linear.inputs * own for linear in adapted)
    shared = {linear.shares_input_with: linear.inputs for linear in adapted if not linear.input_saved}
    return total + own * sum(shared.values())


def compute_bytes(training: Training) -> int:
    """Bytes per element of the dtype that layers compute in."""
    return 4 if training.precision.compute == "float32" else 2


def own_bytes(training: Training) -> int:
    """Bytes per element of the dtype that adapters compute in."""
    return compute_bytes(training) if training.precision.autocast or training.stack.autocast else training.adapter_bytes
